; How a thread sleeps and is woken on Linux.
;
; park(word, nanoseconds): sleeps while the word is 1, at most that long (for ever if negative); may
; return early. unpark(word): makes the word 0 and wakes the sleeper.

declare i64 @syscall(i64, ...)

define internal void @park(ptr %word, i64 %nanoseconds) {
  %time = alloca [2 x i64]
  %seconds = sdiv i64 %nanoseconds, 1000000000
  %fraction = srem i64 %nanoseconds, 1000000000
  store i64 %seconds, ptr %time
  %fraction_at = getelementptr i64, ptr %time, i64 1
  store i64 %fraction, ptr %fraction_at
  %unlimited = icmp slt i64 %nanoseconds, 0
  %limit = select i1 %unlimited, ptr null, ptr %time
  ; FUTEX_WAIT | FUTEX_PRIVATE_FLAG
  %ignored = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %word, i64 128, i64 1, ptr %limit,
                                          ptr null, i64 0)
  ret void
}
define internal void @unpark(ptr %word) {
  %was = atomicrmw xchg ptr %word, i32 0 seq_cst
  %slept = icmp ne i32 %was, 0
  br i1 %slept, label %call, label %done
call:
  ; FUTEX_WAKE | FUTEX_PRIVATE_FLAG
  %ignored = call i64 (i64, ...) @syscall(i64 $FUTEX, ptr %word, i64 129, i64 1, ptr null,
                                          ptr null, i64 0)
  br label %done
done:
  ret void
}
define internal void @reset_sleep() {
  ret void
}
define internal void @name_thread(ptr %worker) {
  %number = call i64 (i64, ...) @syscall(i64 $GET_THREAD)
  %kernel_at = getelementptr %participant, ptr %worker, i32 0, i32 9
  store atomic i64 %number, ptr %kernel_at monotonic, align 8
  ret void
}

; Forbids a sleeping worker the CPU that this thread runs on, unless that is the only one it may
; use. The mask has 1,024 bytes, for 8,192 CPUs; if the kernel has more, it says no and nothing is
; done.
define internal void @bar_this_cpu(ptr %worker) {
  %mask = alloca [128 x i64]
  %cpu_at = alloca i32
  %kernel_at = getelementptr %participant, ptr %worker, i32 0, i32 9
  %thread = load atomic i64, ptr %kernel_at monotonic, align 8
  %size = call i64 (i64, ...) @syscall(i64 $GET_AFFINITY, i64 %thread, i64 1024, ptr %mask)
  %got_mask = icmp sgt i64 %size, 0
  br i1 %got_mask, label %where, label %done
where:
  %error = call i64 (i64, ...) @syscall(i64 $GET_CPU, ptr %cpu_at, ptr null, ptr null)
  %got_cpu = icmp eq i64 %error, 0
  br i1 %got_cpu, label %inside, label %done
inside:
  %cpu_short = load i32, ptr %cpu_at
  %cpu = zext i32 %cpu_short to i64
  %bits = mul i64 %size, 8
  %in_mask = icmp ult i64 %cpu, %bits
  br i1 %in_mask, label %clear, label %done
clear:
  %index = udiv i64 %cpu, 64
  %shift = urem i64 %cpu, 64
  %word_at = getelementptr i64, ptr %mask, i64 %index
  %word = load i64, ptr %word_at
  %bit = shl i64 1, %shift
  %others = xor i64 %bit, -1
  %kept = and i64 %word, %others
  store i64 %kept, ptr %word_at
  %was_allowed = icmp ne i64 %kept, %word
  br i1 %was_allowed, label %any, label %done
any:
  %at = phi i64 [0, %clear], [%at_next, %any]
  %seen = phi i64 [0, %clear], [%seen_next, %any]
  %part_at = getelementptr i64, ptr %mask, i64 %at
  %part = load i64, ptr %part_at
  %seen_next = or i64 %seen, %part
  %at_next = add i64 %at, 1
  %words = udiv i64 %size, 8
  %more = icmp slt i64 %at_next, %words
  br i1 %more, label %any, label %judge
judge:
  %nowhere = icmp eq i64 %seen_next, 0
  br i1 %nowhere, label %done, label %set
set:
  %failed = call i64 (i64, ...) @syscall(i64 $SET_AFFINITY, i64 %thread, i64 %size, ptr %mask)
  %ok = icmp eq i64 %failed, 0
  br i1 %ok, label %note, label %done
note:
  %number = add i64 %cpu, 1
  %barred_at = getelementptr %participant, ptr %worker, i32 0, i32 8
  store atomic i64 %number, ptr %barred_at monotonic, align 8
  br label %done
done:
  ret void
}

; gives this worker the CPU back that it was forbidden
define internal void @allow_all_cpus(ptr %worker) {
  %mask = alloca [128 x i64]
  %barred_at = getelementptr %participant, ptr %worker, i32 0, i32 8
  %barred = load atomic i64, ptr %barred_at monotonic, align 8
  %none = icmp eq i64 %barred, 0
  br i1 %none, label %done, label %read
read:
  %size = call i64 (i64, ...) @syscall(i64 $GET_AFFINITY, i64 0, i64 1024, ptr %mask)
  %got_mask = icmp sgt i64 %size, 0
  br i1 %got_mask, label %set, label %done
set:
  %cpu = sub i64 %barred, 1
  %index = udiv i64 %cpu, 64
  %shift = urem i64 %cpu, 64
  %word_at = getelementptr i64, ptr %mask, i64 %index
  %word = load i64, ptr %word_at
  %bit = shl i64 1, %shift
  %allowed = or i64 %word, %bit
  store i64 %allowed, ptr %word_at
  %ignored = call i64 (i64, ...) @syscall(i64 $SET_AFFINITY, i64 0, i64 %size, ptr %mask)
  store atomic i64 0, ptr %barred_at monotonic, align 8
  br label %done
done:
  ret void
}
