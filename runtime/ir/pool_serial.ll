; The pool where there are no threads: the caller runs all ranges.

define void @graphc_parallel_for(ptr %function, ptr %context, i64 %tasks, i64 %some_grain,
                                 i64 %workers, ptr %status) {
  %grain = call i64 @llvm.smax.i64(i64 %some_grain, i64 1)
  %last = sub i64 %tasks, 1
  %last_range = sdiv i64 %last, %grain
  %ranges = add i64 %last_range, 1
  %work = icmp sgt i64 %tasks, 0
  br i1 %work, label %run, label %done
run:
  call void @run_serially(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %ranges,
                          ptr %status, i1 true)
  br label %done
done:
  ret void
}
define void @graphc_threads_configure(i64 %capacity, ptr %handler) {
  store atomic ptr %handler, ptr @poll monotonic, align 8
  ret void
}
define i64 @graphc_threads_started() {
  ret i64 0
}
define void @graphc_threads_reset() {
  ret void
}
