"""Is the CUDA C++ text that graphc prints right, on a machine without a GPU?

`emulator` runs the very text on the CPU; `nvrtc` compiles it for the architectures that graphc
names.
"""
