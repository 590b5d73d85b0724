; What all routines use: words of tables, the record of a run, the clock and the poll for signals.

; ---- words ----------------------------------------------------------------------------------
declare { i64, i1 } @llvm.uadd.with.overflow.i64(i64, i64)
declare { i64, i1 } @llvm.umul.with.overflow.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)

define internal i64 @word(ptr %table, i64 %index) alwaysinline {
  %at = getelementptr i64, ptr %table, i64 %index
  %value = load i64, ptr %at, align 8
  ret i64 %value
}

define internal ptr @pointer(ptr %table, i64 %index) alwaysinline {
  %at = getelementptr ptr, ptr %table, i64 %index
  %value = load ptr, ptr %at, align 8
  ret ptr %value
}

define internal void @set_word(ptr %table, i64 %index, i64 %value) alwaysinline {
  %at = getelementptr i64, ptr %table, i64 %index
  store i64 %value, ptr %at, align 8
  ret void
}

define internal void @set_pointer(ptr %table, i64 %index, ptr %value) alwaysinline {
  %at = getelementptr ptr, ptr %table, i64 %index
  store ptr %value, ptr %at, align 8
  ret void
}

; The part of a call's scratch that starts at the word named in the header.
define internal ptr @part(ptr %descriptor, ptr %frame, i64 %word) alwaysinline {
  %offset = call i64 @word(ptr %descriptor, i64 %word)
  %part = getelementptr i64, ptr %frame, i64 %offset
  ret ptr %part
}

; Copy the table of addresses, once in each process.
define void @initialise(ptr %table) "no-builtins" {
start:
  br label %copy
copy:
  %index = phi i64 [ 0, %start ], [ %after, %copy ]
  %value = call i64 @word(ptr %table, i64 %index)
  call void @set_word(ptr @addresses, i64 %index, i64 %value)
  %after = add nuw nsw i64 %index, 1
  %more = icmp ult i64 %after, ${ADDRESSES}
  br i1 %more, label %copy, label %done
done:
  ret void
}

; ---- running a program ----------------------------------------------------------------------
; int64_t run(program, buffers, extents, strides, workspace, status, release): call the program
; with or without the GIL. Leaves in the status record what `poll` has to know. Only the main
; thread polls when the GIL was released: no other thread is ever handed a signal.
define i64 @run(ptr %program, ptr %buffers, ptr %extents, ptr %strides, ptr %workspace,
                ptr %status, i1 zeroext %release) uwtable {
start:
  call void @set_pointer(ptr %status, i64 ${POLL}, ptr @poll)
  br i1 %release, label %without, label %with
with:
  call void @set_word(ptr %status, i64 ${STATE}, i64 1)
  %held = call i64 %program(ptr %buffers, ptr %extents, ptr %strides, ptr %workspace, ptr %status)
  ret i64 %held
without:
  %wide = call i64 @PyThread_get_thread_ident()
  %thread = and i64 %wide, ${THREAD_MASK}
  %main = call i64 @address_of_main_thread()
  %polls = icmp eq i64 %thread, %main
  %saved = call ptr @PyEval_SaveThread()
  %state = select i1 %polls, ptr %saved, ptr null
  call void @set_pointer(ptr %status, i64 ${STATE}, ptr %state)
  %free = call i64 %program(ptr %buffers, ptr %extents, ptr %strides, ptr %workspace, ptr %status)
  call void @PyEval_RestoreThread(ptr %saved)
  ret i64 %free
}

define internal i64 @now() {
  %record = alloca [2 x i64], align 8
  %clock_id = call i64 @address_of_clock_id()
  %id = trunc i64 %clock_id to i32
  ${READ_CLOCK}
  ret i64 %ticks
}

; void poll(status): called by long loops and by a waiting caller, in the calling thread only. Reads
; the clock; every ${POLL_INTERVAL} ms or more asks Python whether a signal came. If its handler
; raised, sets the cancel word (and the code, if nothing failed before) and leaves the exception
; pending.
define void @poll(ptr %status) uwtable {
start:
  %state = call i64 @word(ptr %status, i64 ${STATE})
  %off = icmp eq i64 %state, 0
  br i1 %off, label %done, label %look
look:
  %now = call i64 @now()
  %interval = call i64 @address_of_poll_interval()
  %next = add i64 %now, %interval
  %deadline = call i64 @word(ptr %status, i64 ${DEADLINE})
  %first = icmp eq i64 %deadline, 0
  br i1 %first, label %schedule, label %compare
schedule:
  call void @set_word(ptr %status, i64 ${DEADLINE}, i64 %next)
  ret void
compare:
  %due = icmp sge i64 %now, %deadline
  br i1 %due, label %ask, label %done
ask:
  call void @set_word(ptr %status, i64 ${DEADLINE}, i64 %next)
  %holds = icmp eq i64 %state, 1
  br i1 %holds, label %held, label %released
held:
  %answer_held = call i32 @PyErr_CheckSignals()
  br label %judge
released:
  %saved = inttoptr i64 %state to ptr
  call void @PyEval_RestoreThread(ptr %saved)
  %answer_taken = call i32 @PyErr_CheckSignals()
  %again = call ptr @PyEval_SaveThread()
  br label %judge
judge:
  %answer = phi i32 [ %answer_held, %held ], [ %answer_taken, %released ]
  %raised = icmp ne i32 %answer, 0
  br i1 %raised, label %cancel, label %done
cancel:
  %cancel_at = getelementptr i64, ptr %status, i64 ${CANCEL}
  %before = cmpxchg ptr %status, i64 0, i64 ${CANCELLED} acq_rel monotonic
  store atomic i64 1, ptr %cancel_at release, align 8
  call void @set_word(ptr %status, i64 ${STATE}, i64 0)
  ret void
done:
  ret void
}
