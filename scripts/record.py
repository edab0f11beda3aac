from sbbatch.zoo.record import main

raise SystemExit(main())
