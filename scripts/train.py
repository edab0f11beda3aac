from sbbatch_main import main

if __name__ == "__main__":
    raise SystemExit(main("train"))
