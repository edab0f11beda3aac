from sbbatch.zoo.commands.study import main

if __name__ == "__main__":
    raise SystemExit(main())
