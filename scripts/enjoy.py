from sbbatch.zoo.enjoy import main

raise SystemExit(main())
