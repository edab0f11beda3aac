from sbbatch.zoo.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
