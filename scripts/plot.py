from sbbatch.zoo.commands.plot import main

if __name__ == "__main__":
    raise SystemExit(main())
