; How a thread sleeps and is woken where there are POSIX threads only.
;
; One mutex and one condition for every word: each wake-up wakes all, which few threads can bear.

declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_timedwait(ptr, ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
@mutex = internal global [16 x i64] zeroinitializer, align 16
@condition = internal global [16 x i64] zeroinitializer, align 16

define internal void @park(ptr %word, i64 %nanoseconds) {
  %time = alloca [2 x i64]
  %read = call i32 @clock_gettime(i32 0, ptr %time) ; CLOCK_REALTIME, by which conditions wait
  %seconds = load i64, ptr %time
  %fraction_at = getelementptr i64, ptr %time, i64 1
  %fraction = load i64, ptr %fraction_at
  %later = add i64 %fraction, %nanoseconds
  %carry = sdiv i64 %later, 1000000000
  %seconds_end = add i64 %seconds, %carry
  %fraction_end = srem i64 %later, 1000000000
  store i64 %seconds_end, ptr %time
  store i64 %fraction_end, ptr %fraction_at
  %unlimited = icmp slt i64 %nanoseconds, 0
  %locked = call i32 @pthread_mutex_lock(ptr @mutex)
  br label %look
look:
  %value = load atomic i32, ptr %word seq_cst, align 4
  %sleeps = icmp ne i32 %value, 0
  br i1 %sleeps, label %wait, label %done
wait:
  br i1 %unlimited, label %wait_long, label %wait_briefly
wait_long:
  %woken = call i32 @pthread_cond_wait(ptr @condition, ptr @mutex)
  br label %look
wait_briefly:
  %error = call i32 @pthread_cond_timedwait(ptr @condition, ptr @mutex, ptr %time)
  %timely = icmp eq i32 %error, 0
  br i1 %timely, label %look, label %done
done:
  %unlocked = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
define internal void @unpark(ptr %word) {
  %locked = call i32 @pthread_mutex_lock(ptr @mutex)
  store atomic i32 0, ptr %word seq_cst, align 4
  %woken = call i32 @pthread_cond_broadcast(ptr @condition)
  %unlocked = call i32 @pthread_mutex_unlock(ptr @mutex)
  ret void
}
define internal void @reset_sleep() {
  store [16 x i64] zeroinitializer, ptr @mutex
  store [16 x i64] zeroinitializer, ptr @condition
  %mutex = call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  %condition = call i32 @pthread_cond_init(ptr @condition, ptr null)
  ret void
}
define internal void @name_thread(ptr %worker) {
  ret void
}
define internal void @bar_this_cpu(ptr %worker) {
  ret void
}
define internal void @allow_all_cpus(ptr %worker) {
  ret void
}
