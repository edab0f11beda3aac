from sbbatch.zoo.plot import main

raise SystemExit(main())
