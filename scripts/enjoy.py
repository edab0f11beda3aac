from sbbatch.zoo.commands.enjoy import main

if __name__ == "__main__":
    raise SystemExit(main())
