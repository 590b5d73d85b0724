; What the threads of the pool share.
;
; A participant has two cache lines to itself: its block of ranges, which thieves write, and flags.
;   claimed  ranges of the block that somebody has taken, counted beyond `count` by late claimants
;   count    ranges in the block
;   first    number of its first range
;   front    ranges the owner took, from the front; only the owner writes it
;   back     ranges others took, from the back
;   busy     1 while the worker may touch the job
;   asleep   1 while the worker sleeps or is about to
;   barred   1 + the CPU that was forbidden to the worker when it was woken, or 0
;   kernel   the kernel's number of the thread (Linux), for affinity

%participant = type {
  i64, i64, i64, i64, i64, [3 x i64],
  i32, i32, i64, i64, [5 x i64]
}
%job = type { ptr, ptr, i64, i64, ptr, i64 } ; function, context, tasks, grain, status, float mode

; jobs published so far << 16 | participants of the open job; 0 participants: no job is open
@generation = internal global i64 0, align 128
@participants = internal global [$MAX_WORKERS x %participant] zeroinitializer, align 128
@job = internal global %job zeroinitializer, align 128
@in_use = internal global i32 0, align 128 ; 1 while some thread is inside a parallel job
@caller_asleep = internal global i32 0, align 128
@started = internal global i64 0, align 128 ; threads there are
@capacity = internal global i64 1
@forks = internal global i64 0 ; how often this process is the child of a fork
@poll = internal global ptr null
