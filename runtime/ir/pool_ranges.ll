; How is one job cut into ranges, and when does it stop?

declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)

define internal i1 @is_stopped(ptr %status) {
  %none = icmp eq ptr %status, null
  br i1 %none, label %go_on, label %look
look:
  %code_at = getelementptr i64, ptr %status, i64 $STATUS_CODE_WORD
  %code = load atomic i64, ptr %code_at monotonic, align 8
  %cancel_at = getelementptr i64, ptr %status, i64 $STATUS_CANCEL_WORD
  %cancel = load atomic i64, ptr %cancel_at monotonic, align 8
  %either = or i64 %code, %cancel
  %stop = icmp ne i64 %either, 0
  ret i1 %stop
go_on:
  ret i1 false
}

; runs range %range: tasks [range * grain, min((range + 1) * grain, tasks))
define internal void @run_range(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %range,
                                i64 %self) {
  %begin = mul i64 %range, %grain
  %rest = sub i64 %tasks, %begin ; begin + grain could overflow
  %size = call i64 @llvm.smin.i64(i64 %grain, i64 %rest)
  %end = add i64 %begin, %size
  call void %function(ptr %context, i64 %begin, i64 %end, i64 %self)
  ret void
}

; lets the calling Python thread look for signals, if there is somebody to tell
define internal void @poll_signals(ptr %status) {
  %handler = load atomic ptr, ptr @poll monotonic, align 8
  %no_handler = icmp eq ptr %handler, null
  %no_status = icmp eq ptr %status, null
  %skip = or i1 %no_handler, %no_status
  br i1 %skip, label %done, label %ask
ask:
  call void %handler(ptr %status)
  br label %done
done:
  ret void
}

define internal void @run_serially(ptr %function, ptr %context, i64 %tasks, i64 %grain,
                                   i64 %ranges, ptr %status, i1 %polls) {
  br label %next
next:
  %range = phi i64 [0, %0], [%after, %polled]
  %more = icmp slt i64 %range, %ranges
  br i1 %more, label %check, label %done
check:
  %stop = call i1 @is_stopped(ptr %status)
  br i1 %stop, label %done, label %run
run:
  call void @run_range(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %range, i64 0)
  %after = add i64 %range, 1
  br i1 %polls, label %poll, label %polled
poll:
  call void @poll_signals(ptr %status)
  br label %polled
polled:
  br label %next
done:
  ret void
}
