from sbbatch.zoo.commands.tune import main

if __name__ == "__main__":
    raise SystemExit(main())
