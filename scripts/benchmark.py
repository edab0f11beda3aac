from sbbatch.zoo.benchmark import main

raise SystemExit(main())
