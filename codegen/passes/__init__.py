"""Which steps stand between a graph and the text of its program?  One a file; `lower` and the CUDA
printer say in which order.

Of the graph, before it is cut into kernels:

- `deviations`: sums of what is far from a mean, read once;
- `tiny`, `shallow`, `deep`: products written term by term, made where they are read, summed in
  parts; `masks`: those of relu, made again.

Of loops:

- `carried` and `records`: where states lie, and what steps hand on;
- `weights`: matrices that every step multiplies by; `next_step`: what the next step asks for;
- `stretches`: loops that are cut so that what steps give out is used while it is near; `stripes`:
  rows that each worker takes through all steps by itself.

Of launches:

- `neighbours`: kernels that write other parts of one array; `copies`: a kernel for a part, or for
  arrays that lie otherwise; `layouts`: in which order axes lie; `blocks`: launches for each block
  of a batch; `chains`: products that stay in registers;
- `accesses`: which elements a launch touches;
- `together` and `beside`: what need not wait; `inplace`: what may be written over.
"""
