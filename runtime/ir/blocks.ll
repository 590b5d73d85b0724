; Where do blocks of memory for outputs and workspaces come from, and go back to?

; ---- blocks ---------------------------------------------------------------------------------
; A block is 64-byte aligned memory behind two words: its size in bytes at -16, and what the
; allocator returned at -8. The pool holds idle blocks in ${POOL_SLOTS} slots; whoever exchanges a
; slot with null owns the block. A slot's size is kept beside it as a hint, since the header of a
; block that one does not own may vanish at any moment.

@pool = internal global [${POOL_SLOTS} x ptr] zeroinitializer, align 64
@pool_hints = internal global [${POOL_SLOTS} x i64] zeroinitializer, align 64
@pool_held = internal global i64 0
@pool_limit = internal global i64 ${DEFAULT_LIMIT_BYTES}
@pool_hand = internal global i64 0

define internal i64 @block_bytes(ptr %block) alwaysinline {
  %at = getelementptr i8, ptr %block, i64 -16
  %bytes = load i64, ptr %at, align 8
  ret i64 %bytes
}

define internal ptr @block_new(i64 %bytes) uwtable "no-builtins" {
start:
  %huge = icmp uge i64 %bytes, ${HUGE_BYTES}
  %alignment = select i1 %huge, i64 ${HUGE_PAGE_BYTES}, i64 ${ALIGNMENT_BYTES}
  %extra = add i64 %alignment, 16
  %sum = call { i64, i1 } @llvm.uadd.with.overflow.i64(i64 %bytes, i64 %extra)
  %total = extractvalue { i64, i1 } %sum, 0
  %overflow = extractvalue { i64, i1 } %sum, 1
  br i1 %overflow, label %none, label %allocate
allocate:
  %raw = call ptr @PyMem_RawMalloc(i64 %total)
  %failed = icmp eq ptr %raw, null
  br i1 %failed, label %none, label %align_up
align_up:
  %from = ptrtoint ptr %raw to i64
  %past = add i64 %from, %extra
  %mask = sub i64 0, %alignment
  %aligned = and i64 %past, %mask
  %offset = sub i64 %aligned, %from
  %block = getelementptr i8, ptr %raw, i64 %offset
  %size_at = getelementptr i8, ptr %block, i64 -16
  store i64 %bytes, ptr %size_at, align 8
  %raw_at = getelementptr i8, ptr %block, i64 -8
  store ptr %raw, ptr %raw_at, align 8
  %advise = call ptr @address_of_madvise()
  %can_advise = icmp ne ptr %advise, null
  %should = and i1 %huge, %can_advise
  br i1 %should, label %ask, label %done
ask:
  call i32 %advise(ptr %block, i64 %bytes, i32 ${MADV_HUGEPAGE})
  ret ptr %block
done:
  ret ptr %block
none:
  ret ptr null
}

define internal void @block_free(ptr %block) uwtable {
  %at = getelementptr i8, ptr %block, i64 -8
  %raw = load ptr, ptr %at, align 8
  call void @PyMem_RawFree(ptr %raw)
  ret void
}

; Empty one slot; the caller owns what was in it (null: nothing).
define internal ptr @pool_remove(i64 %index) uwtable {
start:
  %slot = getelementptr ptr, ptr @pool, i64 %index
  %word = atomicrmw xchg ptr %slot, i64 0 acq_rel
  %block = inttoptr i64 %word to ptr
  %empty = icmp eq i64 %word, 0
  br i1 %empty, label %done, label %count
count:
  %bytes = call i64 @block_bytes(ptr %block)
  %before = atomicrmw sub ptr @pool_held, i64 %bytes monotonic
  br label %done
done:
  ret ptr %block
}

; Free one idle block, chosen by a hand that goes round the slots.
define internal void @pool_evict() uwtable {
start:
  %turn = atomicrmw add ptr @pool_hand, i64 1 monotonic
  %index = urem i64 %turn, ${POOL_SLOTS}
  %block = call ptr @pool_remove(i64 %index)
  %empty = icmp eq ptr %block, null
  br i1 %empty, label %done, label %free
free:
  call void @block_free(ptr %block)
  br label %done
done:
  ret void
}

; A block of at least so many bytes (and at most a quarter more), or null when there is no memory.
define ptr @block_take(i64 %bytes) uwtable "no-builtins" {
start:
  %quarter = lshr i64 %bytes, 2
  %most = add i64 %bytes, %quarter
  br label %scan
scan:
  %index = phi i64 [ 0, %start ], [ %after, %next ]
  %hint_at = getelementptr i64, ptr @pool_hints, i64 %index
  %hint = load atomic i64, ptr %hint_at monotonic, align 8
  %enough = icmp uge i64 %hint, %bytes
  %tight = icmp ule i64 %hint, %most
  %likely = and i1 %enough, %tight
  br i1 %likely, label %try, label %next
try:
  %block = call ptr @pool_remove(i64 %index)
  %gone = icmp eq ptr %block, null
  br i1 %gone, label %next, label %owned
owned:
  %size = call i64 @block_bytes(ptr %block)
  %fits = icmp uge i64 %size, %bytes
  br i1 %fits, label %use, label %refuse
use:
  ret ptr %block
refuse:                                           ; the hint was stale
  call void @block_give(ptr %block)
  br label %next
next:
  %after = add nuw nsw i64 %index, 1
  %more = icmp ult i64 %after, ${POOL_SLOTS}
  br i1 %more, label %scan, label %fresh
fresh:
  %new = call ptr @block_new(i64 %bytes)
  ret ptr %new
}

; Put a block into the pool, freeing idle ones while the pool holds more than its limit.
define void @block_give(ptr %block) uwtable "no-builtins" {
start:
  %bytes = call i64 @block_bytes(ptr %block)
  %limit = load atomic i64, ptr @pool_limit monotonic, align 8
  %fits = icmp ule i64 %bytes, %limit
  %worth = icmp uge i64 %bytes, ${SMALLEST_POOLED_BYTES}
  %keep = and i1 %fits, %worth
  br i1 %keep, label %search, label %free
search:
  %round = phi i64 [ 0, %start ], [ %rounds, %full ]
  br label %scan
scan:
  %index = phi i64 [ 0, %search ], [ %after, %next ]
  %slot = getelementptr ptr, ptr @pool, i64 %index
  %seen = load atomic i64, ptr %slot monotonic, align 8
  %empty = icmp eq i64 %seen, 0
  br i1 %empty, label %try, label %next
try:
  %word = ptrtoint ptr %block to i64
  %pair = cmpxchg ptr %slot, i64 0, i64 %word acq_rel monotonic
  %stored = extractvalue { i64, i1 } %pair, 1
  br i1 %stored, label %kept, label %next
next:
  %after = add nuw nsw i64 %index, 1
  %more = icmp ult i64 %after, ${POOL_SLOTS}
  br i1 %more, label %scan, label %full
full:
  call void @pool_evict()
  %rounds = add i64 %round, 1
  %again = icmp ult i64 %rounds, 4
  br i1 %again, label %search, label %free
kept:
  %hint_at = getelementptr i64, ptr @pool_hints, i64 %index
  store atomic i64 %bytes, ptr %hint_at monotonic, align 8
  %before = atomicrmw add ptr @pool_held, i64 %bytes monotonic
  call void @pool_shrink(i64 %limit)
  ret void
free:
  call void @block_free(ptr %block)
  ret void
}

; Free idle blocks until no more than so many bytes are held.
define internal void @pool_shrink(i64 %limit) uwtable {
start:
  br label %check
check:
  %step = phi i64 [ 0, %start ], [ %steps, %evict ]
  %held = load atomic i64, ptr @pool_held monotonic, align 8
  %over = icmp sgt i64 %held, %limit
  %can = icmp ult i64 %step, ${POOL_SLOTS}
  %go = and i1 %over, %can
  br i1 %go, label %evict, label %done
evict:
  call void @pool_evict()
  %steps = add nuw nsw i64 %step, 1
  br label %check
done:
  ret void
}

; Set the limit, in bytes, and free what exceeds it; a negative one asks only. Returns the limit.
define i64 @pool_limit_set(i64 %limit) uwtable {
start:
  %keep = icmp slt i64 %limit, 0
  br i1 %keep, label %done, label %set
set:
  store atomic i64 %limit, ptr @pool_limit monotonic, align 8
  call void @pool_shrink(i64 %limit)
  br label %done
done:
  %now = load atomic i64, ptr @pool_limit monotonic, align 8
  ret i64 %now
}

define i64 @pool_bytes_held() uwtable {
  %held = load atomic i64, ptr @pool_held monotonic, align 8
  ret i64 %held
}
