; Rounding and flush-to-zero bits are a property of a thread. Workers take the caller's, or a range
; would give other bits in another thread after some library has set them in this one. Here
; nobody knows how to read them.

define internal i64 @float_mode() {
  ret i64 0
}
define internal void @set_float_mode(i64 %mode) {
  ret void
}
