from sbbatch.zoo.commands.record import main

if __name__ == "__main__":
    raise SystemExit(main())
