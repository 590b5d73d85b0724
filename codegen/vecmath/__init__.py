"""How are mathematical functions computed from scalar instructions?

- `procedures`: the table of them all, and what holds for each;
- `exp`, `log`, `power`, `trig`, `arc`, `erf`, `gamma`, `bessel`: a file for each subject;
- `fast`: what stands for some of them where accuracy may be lost;
- `parts`: what all are made of; `tables`: their coefficients.
"""
