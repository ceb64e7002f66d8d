"""Front door: python run.py [command] model=tiny pruner=sharpv_adaptive benchmark=tiny_mvbench"""

from sharpv.__main__ import main

if __name__ == "__main__":
    main()
