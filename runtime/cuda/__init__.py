"""How do compiled programs run on a GPU?

- `support`: whether they can here, and what is missing;
- `function`: a call; `array`: arrays on the device, in and out; `stream`: whose order it keeps;
- `launch`: the steps of a plan, in a `frame` of addresses and extents, ordered by `branches`;
- `device`: its stream and memory; `driver`: every call of the driver; `library`: cuBLAS;
- `compile`: machine code; `report` and `disassembly`: what it costs.
"""
