; Workers: how they start, take ranges, wait for the next job, and sleep.

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_attr_init(ptr)
declare i32 @pthread_attr_setstacksize(ptr, i64)
declare i32 @pthread_attr_setdetachstate(ptr, i32)
declare i32 @pthread_attr_destroy(ptr)
declare i32 @pthread_key_create(ptr, ptr)
declare ptr @pthread_getspecific(i64)
declare i32 @pthread_setspecific(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare i32 @sigdelset(ptr, i32)
declare i32 @clock_gettime(i32, ptr)

; A thread-specific value tells workers from other threads: the linker of an LLVM JIT may not know
; `thread_local`. The key has 4 or 8 bytes; the upper ones stay 0.
@worker_key = internal global i64 0
@has_key = internal global i64 0

; Without a key the capacity stays 1, and the pool serial.
define void @graphc_threads_configure(i64 %capacity, ptr %handler) {
  store atomic ptr %handler, ptr @poll monotonic, align 8
  %has_key = load atomic i64, ptr @has_key monotonic, align 8
  %knows = icmp ne i64 %has_key, 0
  br i1 %knows, label %set, label %create
create:
  %error = call i32 @pthread_key_create(ptr @worker_key, ptr null)
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %done, label %created
created:
  store atomic i64 1, ptr @has_key monotonic, align 8
  br label %set
set:
  store atomic i64 %capacity, ptr @capacity monotonic, align 8
  br label %done
done:
  ret void
}

define internal i64 @nanoseconds() {
  %time = alloca [2 x i64]
  %ignored = call i32 @clock_gettime(i32 $CLOCK, ptr %time)
  %seconds = load i64, ptr %time
  %fraction_at = getelementptr i64, ptr %time, i64 1
  %fraction = load i64, ptr %fraction_at
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %fraction
  ret i64 %now
}

define internal ptr @participant(i64 %self) {
  %at = getelementptr [$MAX_WORKERS x %participant], ptr @participants, i64 0, i64 %self
  ret ptr %at
}

; --- taking ranges
; ---------------------------------------------------------------------------------

; Takes one range of the block of %victim, or returns -1. Successful claims never exceed `count`,
; the owner's come from the front and all others from the back, so the two cannot meet and no range
; is left. No order between memory accesses is needed: the generation published the block.
define internal i64 @take(ptr %victim, i1 %own) {
  %count_at = getelementptr %participant, ptr %victim, i32 0, i32 1
  %first_at = getelementptr %participant, ptr %victim, i32 0, i32 2
  %front_at = getelementptr %participant, ptr %victim, i32 0, i32 3
  %back_at = getelementptr %participant, ptr %victim, i32 0, i32 4
  %count = load i64, ptr %count_at
  %seen = load atomic i64, ptr %victim monotonic, align 8
  %maybe = icmp slt i64 %seen, %count
  br i1 %maybe, label %claim, label %empty
claim:
  %order = atomicrmw add ptr %victim, i64 1 monotonic
  %granted = icmp slt i64 %order, %count
  br i1 %granted, label %which, label %empty
which:
  %first = load i64, ptr %first_at
  br i1 %own, label %from_front, label %from_back
from_front:
  %front = load i64, ptr %front_at
  %front_next = add i64 %front, 1
  store i64 %front_next, ptr %front_at
  %front_range = add i64 %first, %front
  ret i64 %front_range
from_back:
  %back = atomicrmw add ptr %back_at, i64 1 monotonic
  %beyond = add i64 %first, %count
  %last = sub i64 %beyond, 1
  %back_range = sub i64 %last, %back
  ret i64 %back_range
empty:
  ret i64 -1
}

; Takes ranges, from the own block and then from the others in turn, until none is left; returns how
; many it ran. A caller that has let the others sleep wakes them at the time %wake_at; $NEVER is
; never.
define internal i64 @work(i64 %self, i64 %participants, i64 %wake_at) {
  %ran_at = alloca i64
  store i64 0, ptr %ran_at
  %alarm_at = alloca i64
  store i64 %wake_at, ptr %alarm_at
  %function = load ptr, ptr @job
  %context_at = getelementptr %job, ptr @job, i32 0, i32 1
  %context = load ptr, ptr %context_at
  %tasks_at = getelementptr %job, ptr @job, i32 0, i32 2
  %tasks = load i64, ptr %tasks_at
  %grain_at = getelementptr %job, ptr @job, i32 0, i32 3
  %grain = load i64, ptr %grain_at
  %status_at = getelementptr %job, ptr @job, i32 0, i32 4
  %status = load ptr, ptr %status_at
  %is_caller = icmp eq i64 %self, 0
  %forks = load atomic i64, ptr @forks monotonic, align 8
  br label %visit
visit:
  %visited = phi i64 [0, %0], [%visited_next, %leave]
  %number = phi i64 [%self, %0], [%number_next, %leave]
  %victim = call ptr @participant(i64 %number)
  %own = icmp eq i64 %visited, 0
  br label %next
next:
  %stop = call i1 @is_stopped(ptr %status)
  br i1 %stop, label %done, label %try
try:
  %range = call i64 @take(ptr %victim, i1 %own)
  %none = icmp slt i64 %range, 0
  br i1 %none, label %leave, label %run
run:
  call void @run_range(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %range, i64 %self)
  %ran_before = load i64, ptr %ran_at
  %ran_now = add i64 %ran_before, 1
  store i64 %ran_now, ptr %ran_at
  br i1 %is_caller, label %watch, label %next
watch:
  %alarm = load i64, ptr %alarm_at
  %is_set = icmp ne i64 %alarm, $NEVER
  br i1 %is_set, label %clock, label %poll
clock:
  %time = call i64 @nanoseconds()
  %is_late = icmp sge i64 %time, %alarm
  br i1 %is_late, label %rouse, label %poll
rouse:
  store i64 $NEVER, ptr %alarm_at
  call void @wake_children(i64 0, i64 %participants)
  br label %poll
poll:
  call void @poll_signals(ptr %status)
  %forks_now = load atomic i64, ptr @forks monotonic, align 8
  %same_process = icmp eq i64 %forks, %forks_now
  br i1 %same_process, label %next, label %done
leave:
  %visited_next = add i64 %visited, 1
  %number_up = add i64 %number, 1
  %wraps = icmp eq i64 %number_up, %participants
  %number_next = select i1 %wraps, i64 0, i64 %number_up
  %more = icmp slt i64 %visited_next, %participants
  br i1 %more, label %visit, label %done
done:
  %ran = load i64, ptr %ran_at
  ret i64 %ran
}

; --- waking
; ----------------------------------------------------------------------------------------

define internal void @wake(i64 %number, i64 %participants) {
  %takes_part = icmp slt i64 %number, %participants
  br i1 %takes_part, label %look, label %done
look:
  %worker = call ptr @participant(i64 %number)
  %asleep_at = getelementptr %participant, ptr %worker, i32 0, i32 7
  %asleep = load atomic i32, ptr %asleep_at seq_cst, align 4
  %sleeps = icmp ne i32 %asleep, 0
  br i1 %sleeps, label %rouse, label %done
rouse:
  call void @bar_this_cpu(ptr %worker)
  call void @unpark(ptr %asleep_at)
  br label %done
done:
  ret void
}

; the pool is a binary tree: each participant wakes two, so that waking many takes few steps
define internal void @wake_children(i64 %self, i64 %participants) {
  %twice = mul i64 %self, 2
  %left = add i64 %twice, 1
  %right = add i64 %twice, 2
  call void @wake(i64 %left, i64 %participants)
  call void @wake(i64 %right, i64 %participants)
  ret void
}

; --- a worker
; --------------------------------------------------------------------------------------

; Signals are for Python's main thread; only those that tell of a fault stay, for whoever debugs it.
define internal void @block_signals() {
  %set = alloca [16 x i64], align 16
  %filled = call i32 @sigfillset(ptr %set)
$KEEP_FAULTS
  %ignored = call i32 @pthread_sigmask(i32 $SET_MASK, ptr %set, ptr null)
  ret void
}

; spins until the generation is not %known, or until the time %end; returns the generation
define internal i64 @await_change(i64 %known, i64 %end) {
  br label %look
look:
  %looks = phi i64 [0, %0], [%looks_next, %wait], [0, %clock]
  %now = load atomic i64, ptr @generation acquire, align 8
  %changed = icmp ne i64 %now, %known
  br i1 %changed, label %done, label %wait
wait:
  $PAUSE
  %looks_next = add i64 %looks, 1
  %in_a_row = icmp slt i64 %looks_next, 16
  br i1 %in_a_row, label %look, label %clock
clock:
  %time = call i64 @nanoseconds()
  %in_time = icmp slt i64 %time, %end
  br i1 %in_time, label %look, label %done
done:
  ret i64 %now
}

define internal void @join_job(i64 %self, i64 %generation, i64 %participants) {
  %worker = call ptr @participant(i64 %self)
  %busy_at = getelementptr %participant, ptr %worker, i32 0, i32 6
  %ignored = atomicrmw xchg ptr %busy_at, i32 1 seq_cst
  %again = load atomic i64, ptr @generation seq_cst, align 8
  %open = icmp eq i64 %again, %generation
  br i1 %open, label %work, label %leave
work:
  call void @wake_children(i64 %self, i64 %participants)
  %mode_at = getelementptr %job, ptr @job, i32 0, i32 5
  %mode = load i64, ptr %mode_at
  call void @set_float_mode(i64 %mode)
  %ran = call i64 @work(i64 %self, i64 %participants, i64 $NEVER)
  br label %leave
leave:
  %ignored_too = atomicrmw xchg ptr %busy_at, i32 0 seq_cst
  %caller_asleep = load atomic i32, ptr @caller_asleep seq_cst, align 4
  %waited_for = icmp ne i32 %caller_asleep, 0
  br i1 %waited_for, label %tell, label %done
tell:
  call void @unpark(ptr @caller_asleep)
  br label %done
done:
  ret void
}

define internal ptr @run_worker(ptr %number) {
  %self = ptrtoint ptr %number to i64
  call void @block_signals()
  %key = load i64, ptr @worker_key
  %marked = call i32 @pthread_setspecific(i64 %key, ptr %number)
  %worker = call ptr @participant(i64 %self)
  %asleep_at = getelementptr %participant, ptr %worker, i32 0, i32 7
  call void @name_thread(ptr %worker)
  br label %awake
awake:
  %known_awake = phi i64 [0, %0], [%now, %join], [%known, %sleep]
  %begin = call i64 @nanoseconds()
  %end = add i64 %begin, $SPIN_NANOSECONDS
  br label %wait
wait:
  %known = phi i64 [%known_awake, %awake], [%now, %look]
  %now = call i64 @await_change(i64 %known, i64 %end)
  %quiet = icmp eq i64 %now, %known
  br i1 %quiet, label %doze, label %look
look:
  %participants = and i64 %now, 65535
  %takes_part = icmp slt i64 %self, %participants
  br i1 %takes_part, label %join, label %wait ; a job of others does not prolong the spinning
join:
  call void @join_job(i64 %self, i64 %now, i64 %participants)
  call void @allow_all_cpus(ptr %worker)
  br label %awake
doze:
  call void @allow_all_cpus(ptr %worker)
  %ignored = atomicrmw xchg ptr %asleep_at, i32 1 seq_cst
  ; a job for this worker that is published after this look wakes it
  %last_look = load atomic i64, ptr @generation seq_cst, align 8
  %is_new = icmp ne i64 %last_look, %known
  %last_participants = and i64 %last_look, 65535
  %is_in_it = icmp slt i64 %self, %last_participants
  %stay = and i1 %is_new, %is_in_it
  br i1 %stay, label %sleep, label %park
park:
  call void @park(ptr %asleep_at, i64 -1)
  br label %sleep
sleep:
  store atomic i32 0, ptr %asleep_at seq_cst, align 4
  br label %awake
}

; --- the caller
; ------------------------------------------------------------------------------------

; Starts workers until there are enough for %participants; returns how many can take part. If the
; system refuses a thread, the capacity becomes what there is and it is not asked again.
define internal i64 @start_workers(i64 %participants) {
  %attributes = alloca [16 x i64], align 16
  %handle = alloca i64
  br label %next
next:
  %started = load atomic i64, ptr @started monotonic, align 8
  %present = add i64 %started, 1
  %enough = icmp sge i64 %present, %participants
  br i1 %enough, label %done, label %start
start:
  %number = inttoptr i64 %present to ptr
  %i1 = call i32 @pthread_attr_init(ptr %attributes)
  %i2 = call i32 @pthread_attr_setstacksize(ptr %attributes, i64 $STACK_BYTES)
  %i3 = call i32 @pthread_attr_setdetachstate(ptr %attributes, i32 $DETACHED)
  %error = call i32 @pthread_create(ptr %handle, ptr %attributes, ptr @run_worker, ptr %number)
  %i4 = call i32 @pthread_attr_destroy(ptr %attributes)
  %failed = icmp ne i32 %error, 0
  br i1 %failed, label %refused, label %count
count:
  store atomic i64 %present, ptr @started monotonic, align 8
  br label %next
refused:
  store atomic i64 %present, ptr @capacity monotonic, align 8
  ret i64 %present
done:
  ret i64 %participants
}

; a kernel that calls this in a worker must not reach Python's signal handling
define internal i1 @is_worker() {
  %has_key = load atomic i64, ptr @has_key monotonic, align 8
  %knows = icmp ne i64 %has_key, 0
  br i1 %knows, label %ask, label %no
ask:
  %key = load i64, ptr @worker_key
  %number = call ptr @pthread_getspecific(i64 %key)
  %is_marked = icmp ne ptr %number, null
  ret i1 %is_marked
no:
  ret i1 false
}

; gives each participant its block: the first (ranges mod participants) blocks are one range longer
define internal void @deal(i64 %ranges, i64 %participants) {
  %share = udiv i64 %ranges, %participants
  %over = urem i64 %ranges, %participants
  br label %next
next:
  %number = phi i64 [0, %0], [%number_next, %next]
  %first = phi i64 [0, %0], [%first_next, %next]
  %block = call ptr @participant(i64 %number)
  %longer = icmp slt i64 %number, %over
  %extra = zext i1 %longer to i64
  %count = add i64 %share, %extra
  store atomic i64 0, ptr %block monotonic, align 8
  %count_at = getelementptr %participant, ptr %block, i32 0, i32 1
  store i64 %count, ptr %count_at
  %first_at = getelementptr %participant, ptr %block, i32 0, i32 2
  store i64 %first, ptr %first_at
  %front_at = getelementptr %participant, ptr %block, i32 0, i32 3
  store i64 0, ptr %front_at
  %back_at = getelementptr %participant, ptr %block, i32 0, i32 4
  store atomic i64 0, ptr %back_at monotonic, align 8
  %first_next = add i64 %first, %count
  %number_next = add i64 %number, 1
  %more = icmp slt i64 %number_next, %participants
  br i1 %more, label %next, label %done
done:
  ret void
}

; waits until %worker is not busy: spins, then sleeps and looks for signals now and then
define internal void @await_worker(ptr %worker, ptr %status) {
  %busy_at = getelementptr %participant, ptr %worker, i32 0, i32 6
  %busy_first = load atomic i32, ptr %busy_at seq_cst, align 4
  %idle_first = icmp eq i32 %busy_first, 0
  br i1 %idle_first, label %done, label %spin
spin:
  %begin = call i64 @nanoseconds()
  %end = add i64 %begin, $SPIN_NANOSECONDS
  br label %pause
pause:
  $PAUSE
  %busy = load atomic i32, ptr %busy_at seq_cst, align 4
  %idle = icmp eq i32 %busy, 0
  br i1 %idle, label %done, label %time
time:
  %now = call i64 @nanoseconds()
  %in_time = icmp slt i64 %now, %end
  br i1 %in_time, label %pause, label %sleep
sleep:
  %ignored = atomicrmw xchg ptr @caller_asleep, i32 1 seq_cst
  %busy_still = load atomic i32, ptr %busy_at seq_cst, align 4
  %idle_now = icmp eq i32 %busy_still, 0
  br i1 %idle_now, label %awake, label %park
park:
  call void @park(ptr @caller_asleep, i64 $POLL_NANOSECONDS)
  store atomic i32 0, ptr @caller_asleep seq_cst, align 4
  call void @poll_signals(ptr %status)
  %busy_after = load atomic i32, ptr %busy_at seq_cst, align 4
  %idle_after = icmp eq i32 %busy_after, 0
  br i1 %idle_after, label %done, label %sleep
awake:
  store atomic i32 0, ptr @caller_asleep seq_cst, align 4
  br label %done
done:
  ret void
}

; What a function took for one task, in nanoseconds, when it last ran while the workers slept. Only
; the thread that holds the pool looks here.
%pace = type { ptr, double } ; function, nanoseconds
@paces = internal global [64 x %pace] zeroinitializer, align 16

; How long the caller has worked alone in jobs that followed one another closely, and until when.
@alone_time = internal global i64 0
@alone_until = internal global i64 0

define internal ptr @pace_of(ptr %function) {
  %address = ptrtoint ptr %function to i64
  %mixed = mul i64 %address, -7046029254386353131 ; 2^64 / golden ratio
  %index = lshr i64 %mixed, 58
  %at = getelementptr [64 x %pace], ptr @paces, i64 0, i64 %index
  ret ptr %at
}

define internal double @expected_time(ptr %function, i64 %tasks) {
  %pace_at = call ptr @pace_of(ptr %function)
  %known = load ptr, ptr %pace_at
  %is_known = icmp eq ptr %known, %function
  %nanoseconds_at = getelementptr %pace, ptr %pace_at, i32 0, i32 1
  %nanoseconds = load double, ptr %nanoseconds_at
  %count = sitofp i64 %tasks to double
  %expected = fmul double %count, %nanoseconds
  %result = select i1 %is_known, double %expected, double $UNKNOWN_TIME
  ret double %result
}

define internal void @note_pace(ptr %function, i64 %tasks, i64 %elapsed) {
  %pace_at = call ptr @pace_of(ptr %function)
  %time = sitofp i64 %elapsed to double
  %count = sitofp i64 %tasks to double
  %nanoseconds = fdiv double %time, %count
  store ptr %function, ptr %pace_at
  %nanoseconds_at = getelementptr %pace, ptr %pace_at, i32 0, i32 1
  store double %nanoseconds, ptr %nanoseconds_at
  ret void
}

; The caller's share. Waking costs more than a short job takes. So if the workers sleep, the
; caller has a budget of time to work alone: it wakes them when the function is known to need more,
; or when the budget is spent, be it by this job or by the ones just before. A pause in which they
; would fall asleep again renews the budget.
define internal void @wake_and_work(ptr %function, i64 %tasks, i64 %grain, i64 %participants) {
  %first = call ptr @participant(i64 1)
  %asleep_at = getelementptr %participant, ptr %first, i32 0, i32 7
  %asleep = load atomic i32, ptr %asleep_at seq_cst, align 4
  %is_warm = icmp eq i32 %asleep, 0
  br i1 %is_warm, label %warm, label %cold
warm:
  call void @wake_children(i64 0, i64 %participants)
  %ran_warm = call i64 @work(i64 0, i64 %participants, i64 $NEVER)
  ret void
cold:
  %begin = call i64 @nanoseconds()
  %before = load i64, ptr @alone_until
  %pause = sub i64 %begin, %before
  %follows = icmp slt i64 %pause, $SPIN_NANOSECONDS
  %spent_before = load i64, ptr @alone_time
  %spent = select i1 %follows, i64 %spent_before, i64 0
  %budget = sub i64 $WORTH_WAKING_NANOSECONDS, %spent
  %budget_time = sitofp i64 %budget to double
  %expected = call double @expected_time(ptr %function, i64 %tasks)
  %alone = fcmp olt double %expected, %budget_time
  br i1 %alone, label %run, label %wake
wake:
  call void @wake_children(i64 0, i64 %participants)
  br label %run
run:
  %start = call i64 @nanoseconds()
  %alarm = add i64 %start, %budget
  %wake_at = select i1 %alone, i64 %alarm, i64 $NEVER
  %ran = call i64 @work(i64 0, i64 %participants, i64 %wake_at)
  %end = call i64 @nanoseconds()
  %elapsed = sub i64 %end, %start
  %spent_now = add i64 %spent, %elapsed
  %spent_after = select i1 %alone, i64 %spent_now, i64 0
  store i64 %spent_after, ptr @alone_time
  store i64 %end, ptr @alone_until
  %did_some = icmp sgt i64 %ran, 0
  br i1 %did_some, label %note, label %done
note:
  %own = mul i64 %ran, %grain ; the last range may be shorter
  %own_tasks = call i64 @llvm.smin.i64(i64 %own, i64 %tasks)
  call void @note_pace(ptr %function, i64 %own_tasks, i64 %elapsed)
  br label %done
done:
  ret void
}

define internal void @run_in_parallel(ptr %function, ptr %context, i64 %tasks, i64 %grain,
                                      i64 %ranges, ptr %status, i64 %participants) {
  store ptr %function, ptr @job
  %context_at = getelementptr %job, ptr @job, i32 0, i32 1
  store ptr %context, ptr %context_at
  %tasks_at = getelementptr %job, ptr @job, i32 0, i32 2
  store i64 %tasks, ptr %tasks_at
  %grain_at = getelementptr %job, ptr @job, i32 0, i32 3
  store i64 %grain, ptr %grain_at
  %status_at = getelementptr %job, ptr @job, i32 0, i32 4
  store ptr %status, ptr %status_at
  %mode = call i64 @float_mode()
  %mode_at = getelementptr %job, ptr @job, i32 0, i32 5
  store i64 %mode, ptr %mode_at
  call void @deal(i64 %ranges, i64 %participants)
  %forks = load atomic i64, ptr @forks monotonic, align 8
  %closed = load i64, ptr @generation
  %advanced = add i64 %closed, 65536
  %open = or i64 %advanced, %participants
  %ignored = atomicrmw xchg ptr @generation, i64 %open seq_cst
  call void @wake_and_work(ptr %function, i64 %tasks, i64 %grain, i64 %participants)
  %ignored_too = atomicrmw xchg ptr @generation, i64 %advanced seq_cst
  br label %next
next:
  %number = phi i64 [1, %0], [%number_next, %next]
  %worker = call ptr @participant(i64 %number)
  call void @await_worker(ptr %worker, ptr %status)
  %number_next = add i64 %number, 1
  %more = icmp slt i64 %number_next, %participants
  br i1 %more, label %next, label %done
done:
  store atomic i32 0, ptr @in_use release, align 4
  %forks_now = load atomic i64, ptr @forks monotonic, align 8
  %same_process = icmp eq i64 %forks, %forks_now
  br i1 %same_process, label %finished, label %orphaned
finished:
  ret void
orphaned:
  ; A signal handler forked while it was polled, and this is the child: ranges that the workers had
  ; taken run in the parent only. The job counts as cancelled; the pool was reset after the fork.
  %cancel_at = getelementptr i64, ptr %status, i64 $STATUS_CANCEL_WORD
  store atomic i64 1, ptr %cancel_at monotonic, align 8
  ret void
}

define void @graphc_parallel_for(ptr %function, ptr %context, i64 %tasks, i64 %some_grain,
                                 i64 %workers, ptr %status) {
  %work = icmp sgt i64 %tasks, 0
  br i1 %work, label %count, label %done
count:
  %grain = call i64 @llvm.smax.i64(i64 %some_grain, i64 1)
  %last = sub i64 %tasks, 1
  %last_range = sdiv i64 %last, %grain
  %ranges = add i64 %last_range, 1
  %capacity = load atomic i64, ptr @capacity monotonic, align 8
  %useful = call i64 @llvm.smin.i64(i64 %ranges, i64 %workers)
  %wanted = call i64 @llvm.smin.i64(i64 %useful, i64 %capacity)
  %several = icmp sgt i64 %wanted, 1
  br i1 %several, label %try, label %alone
try:
  %in_use = atomicrmw xchg ptr @in_use, i32 1 acquire
  %free = icmp eq i32 %in_use, 0
  br i1 %free, label %start, label %occupied
start:
  %participants = call i64 @start_workers(i64 %wanted)
  %helped = icmp sgt i64 %participants, 1
  br i1 %helped, label %parallel, label %unaided
parallel:
  call void @run_in_parallel(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %ranges,
                             ptr %status, i64 %participants)
  ret void
unaided:
  store atomic i32 0, ptr @in_use release, align 4
  br label %alone
occupied:
  br label %alone
alone:
  %is_worker = call i1 @is_worker()
  %polls = xor i1 %is_worker, true
  call void @run_serially(ptr %function, ptr %context, i64 %tasks, i64 %grain, i64 %ranges,
                          ptr %status, i1 %polls)
  ret void
done:
  ret void
}

define i64 @graphc_threads_started() {
  %started = load atomic i64, ptr @started monotonic, align 8
  ret i64 %started
}

; After a fork the child has no workers. Only the forking thread exists, so plain stores do.
define void @graphc_threads_reset() {
  %generation = load i64, ptr @generation
  %counted = or i64 %generation, 65535
  %closed = add i64 %counted, 1
  store i64 %closed, ptr @generation
  store i32 0, ptr @in_use
  store i32 0, ptr @caller_asleep
  store i64 0, ptr @started
  %forks = load atomic i64, ptr @forks monotonic, align 8
  %forks_next = add i64 %forks, 1
  store atomic i64 %forks_next, ptr @forks monotonic, align 8
  call void @reset_sleep()
  br label %next
next:
  %number = phi i64 [0, %0], [%number_next, %next]
  %participant = call ptr @participant(i64 %number)
  store %participant zeroinitializer, ptr %participant
  %number_next = add i64 %number, 1
  %more = icmp slt i64 %number_next, $MAX_WORKERS
  br i1 %more, label %next, label %done
done:
  ret void
}
