from sbbatch.zoo.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
