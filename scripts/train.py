from sbbatch.zoo.train import main

raise SystemExit(main())
