from sbbatch.zoo.commands.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
