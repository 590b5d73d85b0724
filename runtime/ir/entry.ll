; The call of a Function: count and keywords, arguments, derived extents, `out` and donations,
; outputs, workspace, program, results. Reads the descriptor (descriptor.py).

; ---- fields ---------------------------------------------------------------------------------
define internal ptr @type_of(ptr %object) alwaysinline {
  %at = getelementptr i8, ptr %object, i64 ${OBJECT_TYPE}
  %value = load ptr, ptr %at, align 8
  ret ptr %value
}

define internal ptr @array_data(ptr %array) alwaysinline {
  %at = getelementptr i8, ptr %array, i64 ${ARRAY_DATA}
  %value = load ptr, ptr %at, align 8
  ret ptr %value
}

define internal ptr @array_dims(ptr %array) alwaysinline {
  %at = getelementptr i8, ptr %array, i64 ${ARRAY_DIMS}
  %value = load ptr, ptr %at, align 8
  ret ptr %value
}

define internal ptr @array_strides(ptr %array) alwaysinline {
  %at = getelementptr i8, ptr %array, i64 ${ARRAY_STRIDES}
  %value = load ptr, ptr %at, align 8
  ret ptr %value
}

define internal i32 @array_flags(ptr %array) alwaysinline {
  %at = getelementptr i8, ptr %array, i64 ${ARRAY_FLAGS}
  %value = load i32, ptr %at, align 4
  ret i32 %value
}

define internal i64 @tuple_size(ptr %tuple) alwaysinline {
  %at = getelementptr i8, ptr %tuple, i64 ${TUPLE_SIZE}
  %value = load i64, ptr %at, align 8
  ret i64 %value
}

define internal ptr @tuple_item(ptr %tuple, i64 %index) alwaysinline {
  %items = getelementptr i8, ptr %tuple, i64 ${TUPLE_ITEMS}
  %value = call ptr @pointer(ptr %items, i64 %index)
  ret ptr %value
}

define internal i1 @is_ndarray(ptr %object) alwaysinline {
  %type = call ptr @type_of(ptr %object)
  %ndarray = call ptr @address_of_object_ndarray()
  %is = icmp eq ptr %type, %ndarray
  ret i1 %is
}

define internal ptr @next_record(ptr %record) alwaysinline {
  %rank = call i64 @word(ptr %record, i64 ${RANK})
  %pairs = shl i64 %rank, 1
  %words = add i64 %pairs, ${AXES}
  %next = getelementptr i64, ptr %record, i64 %words
  ret ptr %next
}

; ---- arguments ------------------------------------------------------------------------------
; Does the ndarray have the record's dtype and rank, and all of these flags?
define internal i1 @suits(ptr %array, ptr %record, i32 %wanted) alwaysinline {
start:
  %rank_at = getelementptr i8, ptr %array, i64 ${ARRAY_RANK}
  %rank = load i32, ptr %rank_at, align 4
  %rank_wide = zext i32 %rank to i64
  %rank_wanted = call i64 @word(ptr %record, i64 ${RANK})
  %rank_right = icmp eq i64 %rank_wide, %rank_wanted
  %flags = call i32 @array_flags(ptr %array)
  %present = and i32 %flags, %wanted
  %flags_right = icmp eq i32 %present, %wanted
  %right = and i1 %rank_right, %flags_right
  br i1 %right, label %dtype, label %no
dtype:
  %descr_at = getelementptr i8, ptr %array, i64 ${ARRAY_DESCR}
  %descr = load ptr, ptr %descr_at, align 8
  %descr_wanted = call ptr @pointer(ptr %record, i64 ${DESCR})
  %same = icmp eq ptr %descr, %descr_wanted
  br i1 %same, label %yes, label %compare
compare:                                          ; unpickled arrays have dtype objects of their own
  %equivalent = call i8 @PyArray_EquivTypes(ptr %descr, ptr %descr_wanted)
  %equal = icmp ne i8 %equivalent, 0
  ret i1 %equal
yes:
  ret i1 true
no:
  ret i1 false
}

; Check the extents against the record's axes, binding slots on the way.
define internal i1 @bind(ptr %dims, ptr %record, ptr %slots) alwaysinline "no-builtins" {
start:
  %rank = call i64 @word(ptr %record, i64 ${RANK})
  %words = shl i64 %rank, 1
  %axes = getelementptr i64, ptr %record, i64 ${AXES}
  %end = getelementptr i64, ptr %axes, i64 %words
  br label %check
check:
  %axis = phi ptr [ %axes, %start ], [ %axis_after, %next ]
  %dim = phi ptr [ %dims, %start ], [ %dim_after, %next ]
  %more = icmp ult ptr %axis, %end
  br i1 %more, label %one, label %yes
one:
  %extent = load i64, ptr %dim, align 8
  %kind = call i64 @word(ptr %axis, i64 0)
  %operand = call i64 @word(ptr %axis, i64 1)
  switch i64 %kind, label %constant [
    i64 ${SAME}, label %same
    i64 ${BIND}, label %store
  ]
store:
  call void @set_word(ptr %slots, i64 %operand, i64 %extent)
  br label %next
same:
  %bound = call i64 @word(ptr %slots, i64 %operand)
  br label %constant
constant:
  %wanted = phi i64 [ %operand, %one ], [ %bound, %same ]
  %right = icmp eq i64 %extent, %wanted
  br i1 %right, label %next, label %no
next:
  %axis_after = getelementptr i64, ptr %axis, i64 2
  %dim_after = getelementptr i64, ptr %dim, i64 1
  br label %check
yes:
  ret i1 true
no:
  ret i1 false
}

; Convert a Python or NumPy scalar into the box, if that is exact or allowed for weak scalars.
define internal i1 @read_scalar(ptr %object, ptr %record, ptr %box) {
start:
  %overflow_at = alloca i32, align 4
  %accept = call i64 @word(ptr %record, i64 ${ACCEPT})
  %store = call i64 @word(ptr %record, i64 ${STORE})
  %type = call ptr @type_of(ptr %object)
  %t_float = call ptr @address_of_object_float()
  %is_float = icmp eq ptr %type, %t_float
  br i1 %is_float, label %py_float, label %not_float
py_float:
  %float_at = getelementptr i8, ptr %object, i64 ${FLOAT_VALUE}
  %float = load double, ptr %float_at, align 8
  br label %real
not_float:
  %t_float64 = call ptr @address_of_object_float64()
  %is_float64 = icmp eq ptr %type, %t_float64
  br i1 %is_float64, label %np_float64, label %not_float64
np_float64:
  %float64_at = getelementptr i8, ptr %object, i64 ${SCALAR_VALUE}
  %float64 = load double, ptr %float64_at, align 8
  br label %real
not_float64:
  %t_int = call ptr @address_of_object_int()
  %is_int = icmp eq ptr %type, %t_int
  br i1 %is_int, label %py_int, label %not_int
py_int:
  %int = call i64 @PyLong_AsLongLongAndOverflow(ptr %object, ptr %overflow_at)
  %overflow = load i32, ptr %overflow_at, align 4
  %exact = icmp eq i32 %overflow, 0
  br i1 %exact, label %integer, label %no
not_int:
  %t_float32 = call ptr @address_of_object_float32()
  %is_float32 = icmp eq ptr %type, %t_float32
  br i1 %is_float32, label %np_float32, label %not_float32
np_float32:
  %float32_at = getelementptr i8, ptr %object, i64 ${SCALAR_VALUE}
  %float32 = load float, ptr %float32_at, align 4
  %widened = fpext float %float32 to double
  br label %real
not_float32:
  %t_int64 = call ptr @address_of_object_int64()
  %is_int64 = icmp eq ptr %type, %t_int64
  br i1 %is_int64, label %np_int64, label %not_int64
np_int64:
  %int64_at = getelementptr i8, ptr %object, i64 ${SCALAR_VALUE}
  %int64 = load i64, ptr %int64_at, align 8
  br label %integer
not_int64:
  %true = call ptr @address_of_object_true()
  %is_true = icmp eq ptr %object, %true
  br i1 %is_true, label %integer, label %not_true
not_true:
  %false = call ptr @address_of_object_false()
  %is_false = icmp eq ptr %object, %false
  br i1 %is_false, label %integer, label %not_false
not_false:
  %np_true = call ptr @address_of_object_numpy_true()
  %is_np_true = icmp eq ptr %object, %np_true
  br i1 %is_np_true, label %integer, label %not_np_true
not_np_true:
  %np_false = call ptr @address_of_object_numpy_false()
  %is_np_false = icmp eq ptr %object, %np_false
  br i1 %is_np_false, label %integer, label %no

real:
  %number = phi double [ %float, %py_float ], [ %float64, %np_float64 ], [ %widened, %np_float32 ]
  %real_kind = phi i64 [ ${KIND_FLOAT}, %py_float ], [ ${KIND_FLOAT64}, %np_float64 ],
                       [ ${KIND_FLOAT32}, %np_float32 ]
  %real_allowed = and i64 %accept, %real_kind
  %real_refused = icmp eq i64 %real_allowed, 0
  br i1 %real_refused, label %no, label %floating

integer:
  %whole = phi i64 [ %int, %py_int ], [ %int64, %np_int64 ], [ 1, %not_int64 ], [ 0, %not_true ],
                   [ 1, %not_false ], [ 0, %not_np_true ]
  %kind = phi i64 [ ${KIND_INT}, %py_int ], [ ${KIND_INT64}, %np_int64 ],
                  [ ${KIND_BOOL}, %not_int64 ], [ ${KIND_BOOL}, %not_true ],
                  [ ${KIND_BOOL}, %not_false ], [ ${KIND_BOOL}, %not_np_true ]
  %allowed = and i64 %accept, %kind
  %refused = icmp eq i64 %allowed, 0
  br i1 %refused, label %no, label %choose
choose:
  switch i64 %store, label %no [
    i64 ${STORE_FLOAT64}, label %as_double
    i64 ${STORE_FLOAT32}, label %as_double
    i64 ${STORE_INT64}, label %put_int64
    i64 ${STORE_INT32}, label %narrow
    i64 ${STORE_BOOL}, label %put_bool
  ]
as_double:
  %converted = sitofp i64 %whole to double
  br label %floating
put_int64:
  store i64 %whole, ptr %box, align 8
  ret i1 true
narrow:
  %short = trunc i64 %whole to i32
  %back = sext i32 %short to i64
  %fits = icmp eq i64 %back, %whole
  br i1 %fits, label %put_int32, label %no
put_int32:
  store i32 %short, ptr %box, align 4
  ret i1 true
put_bool:
  %truth = trunc i64 %whole to i8
  store i8 %truth, ptr %box, align 1
  ret i1 true

floating:
  %value = phi double [ %number, %real ], [ %converted, %as_double ]
  %wide = icmp eq i64 %store, ${STORE_FLOAT64}
  br i1 %wide, label %put_double, label %shorten
put_double:
  store double %value, ptr %box, align 8
  ret i1 true
shorten:                              ; a finite number that becomes infinite is for NumPy to report
  %single = fptrunc double %value to float
  %rewidened = fpext float %single to double
  %now_infinite = call i1 @is_infinite(double %rewidened)
  %was_infinite = call i1 @is_infinite(double %value)
  %unchanged = icmp eq i1 %now_infinite, %was_infinite
  br i1 %unchanged, label %put_single, label %no
put_single:
  store float %single, ptr %box, align 4
  ret i1 true
no:
  ret i1 false
}

define internal i1 @is_infinite(double %value) alwaysinline {
  %bits = bitcast double %value to i64
  %magnitude = and i64 %bits, 9223372036854775807
  %is = icmp eq i64 %magnitude, 9218868437227405312
  ret i1 %is
}

; Check every argument and note its data pointer. 0: all C-contiguous; 1: some are not; -1: slow.
define internal i64 @take_inputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots,
                                 ptr %frame) "no-builtins" {
start:
  %buffers = call ptr @part(ptr %descriptor, ptr %frame, i64 ${BUFFERS})
  %boxes = call ptr @part(ptr %descriptor, ptr %frame, i64 ${BOXES})
  %records = call ptr @pointer(ptr %descriptor, i64 ${INPUT_RECORDS})
  br label %check
check:
  %index = phi i64 [ 0, %start ], [ %after, %next ]
  %record = phi ptr [ %records, %start ], [ %record_after, %next ]
  %together = phi i32 [ ${C_CONTIGUOUS}, %start ], [ %together_after, %next ]
  %more = icmp ult i64 %index, %inputs
  br i1 %more, label %one, label %done
one:
  %object = call ptr @pointer(ptr %args, i64 %index)
  %is_array = call i1 @is_ndarray(ptr %object)
  br i1 %is_array, label %array, label %other
array:
  %partner = call i64 @word(ptr %record, i64 ${PARTNER})
  %kept = icmp slt i64 %partner, 0
  %wanted = select i1 %kept, i32 ${ALIGNED}, i32 ${OWNABLE}
  %suits = call i1 @suits(ptr %object, ptr %record, i32 %wanted)
  br i1 %suits, label %extents, label %slow
extents:
  %dims = call ptr @array_dims(ptr %object)
  %bound = call i1 @bind(ptr %dims, ptr %record, ptr %slots)
  br i1 %bound, label %take, label %slow
take:
  %data = call ptr @array_data(ptr %object)
  %flags = call i32 @array_flags(ptr %object)
  %together_array = and i32 %together, %flags
  br label %next
other:
  %rank = call i64 @word(ptr %record, i64 ${RANK})
  %scalar = icmp eq i64 %rank, 0
  br i1 %scalar, label %convert, label %slow
convert:
  %box = getelementptr i64, ptr %boxes, i64 %index
  %converted = call i1 @read_scalar(ptr %object, ptr %record, ptr %box)
  br i1 %converted, label %next, label %slow
next:
  %buffer = phi ptr [ %data, %take ], [ %box, %convert ]
  %together_after = phi i32 [ %together_array, %take ], [ %together, %convert ]
  call void @set_pointer(ptr %buffers, i64 %index, ptr %buffer)
  %after = add nuw nsw i64 %index, 1
  %record_after = call ptr @next_record(ptr %record)
  br label %check
done:
  %strided = icmp eq i32 %together, 0
  %answer = zext i1 %strided to i64
  ret i64 %answer
slow:
  ret i64 -1
}

; The strides of every axis of every input, then the C-contiguous strides of every output.
define internal void @fill_strides(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots,
                                   ptr %frame) noinline "no-builtins" {
start:
  %strides = call ptr @part(ptr %descriptor, ptr %frame, i64 ${STRIDES})
  %records = call ptr @pointer(ptr %descriptor, i64 ${INPUT_RECORDS})
  br label %check
check:
  %index = phi i64 [ 0, %start ], [ %after, %next ]
  %record = phi ptr [ %records, %start ], [ %record_after, %next ]
  %to = phi ptr [ %strides, %start ], [ %to_after, %next ]
  %more = icmp ult i64 %index, %inputs
  br i1 %more, label %one, label %outputs
one:
  %object = call ptr @pointer(ptr %args, i64 %index)
  %rank = call i64 @word(ptr %record, i64 ${RANK})
  %to_after = getelementptr i64, ptr %to, i64 %rank
  %scalar = icmp eq i64 %rank, 0
  br i1 %scalar, label %next, label %array
array:
  %from = call ptr @array_strides(ptr %object)
  br label %copy
copy:
  %axis = phi i64 [ 0, %array ], [ %axis_after, %copy ]
  %stride = call i64 @word(ptr %from, i64 %axis)
  call void @set_word(ptr %to, i64 %axis, i64 %stride)
  %axis_after = add nuw nsw i64 %axis, 1
  %axes_left = icmp ult i64 %axis_after, %rank
  br i1 %axes_left, label %copy, label %next
next:
  %after = add nuw nsw i64 %index, 1
  %record_after = call ptr @next_record(ptr %record)
  br label %check

outputs:
  %count = call i64 @word(ptr %descriptor, i64 ${OUTPUTS})
  %output_records = call ptr @pointer(ptr %descriptor, i64 ${OUTPUT_RECORDS})
  br label %output_check
output_check:
  %output = phi i64 [ 0, %outputs ], [ %output_after, %output_next ]
  %output_record = phi ptr [ %output_records, %outputs ], [ %output_record_after, %output_next ]
  %output_to = phi ptr [ %to, %outputs ], [ %output_to_after, %output_next ]
  %outputs_left = icmp ult i64 %output, %count
  br i1 %outputs_left, label %output_one, label %done
output_one:
  %output_rank = call i64 @word(ptr %output_record, i64 ${RANK})
  %itemsize = call i64 @word(ptr %output_record, i64 ${ITEMSIZE})
  %output_to_after = getelementptr i64, ptr %output_to, i64 %output_rank
  br label %output_axis
output_axis:                                      ; from the last axis to the first
  %left = phi i64 [ %output_rank, %output_one ], [ %this, %output_stride ]
  %bytes = phi i64 [ %itemsize, %output_one ], [ %bytes_after, %output_stride ]
  %none_left = icmp eq i64 %left, 0
  br i1 %none_left, label %output_next, label %output_stride
output_stride:
  %this = sub nuw nsw i64 %left, 1
  call void @set_word(ptr %output_to, i64 %this, i64 %bytes)
  %extent = call i64 @extent_of(ptr %output_record, i64 %this, ptr %slots)
  %bytes_after = mul i64 %bytes, %extent
  br label %output_axis
output_next:
  %output_after = add nuw nsw i64 %output, 1
  %output_record_after = call ptr @next_record(ptr %output_record)
  br label %output_check
done:
  ret void
}

; The extent that a record's axis must have.
define internal i64 @extent_of(ptr %record, i64 %axis, ptr %slots) alwaysinline {
start:
  %pair = shl i64 %axis, 1
  %at = add i64 %pair, ${AXES}
  %kind = call i64 @word(ptr %record, i64 %at)
  %operand_at = add i64 %at, 1
  %operand = call i64 @word(ptr %record, i64 %operand_at)
  %constant = icmp eq i64 %kind, ${CONSTANT}
  br i1 %constant, label %known, label %slot
known:
  ret i64 %operand
slot:
  %extent = call i64 @word(ptr %slots, i64 %operand)
  ret i64 %extent
}

; ---- slots ----------------------------------------------------------------------------------
define internal ptr @initial_slots(ptr %descriptor, ptr %frame) alwaysinline "no-builtins" {
start:
  %count = call i64 @word(ptr %descriptor, i64 ${SLOTS})
  %initial = call ptr @pointer(ptr %descriptor, i64 ${INITIAL})
  %constant = icmp eq i64 %count, 0
  br i1 %constant, label %there, label %copy
copy:
  %index = phi i64 [ 0, %start ], [ %after, %copy ]
  %value = call i64 @word(ptr %initial, i64 %index)
  call void @set_word(ptr %frame, i64 %index, i64 %value)
  %after = add nuw nsw i64 %index, 1
  %more = icmp ult i64 %after, %count
  br i1 %more, label %copy, label %done
done:
  ret ptr %frame
there:
  ret ptr %initial
}

; Derive the remaining slots, then compare the axes that had to wait for them.
define internal i1 @derive(ptr %descriptor, ptr %slots, ptr %status) alwaysinline {
start:
  %extents = call ptr @pointer(ptr %descriptor, i64 ${EXTENTS})
  %none = icmp eq ptr %extents, null
  br i1 %none, label %equalities, label %call
call:
  %code = call i64 %extents(ptr %slots, ptr %status)
  %success = icmp eq i64 %code, 0
  br i1 %success, label %equalities, label %no
equalities:
  %count = call i64 @word(ptr %descriptor, i64 ${EQUALITIES})
  %pairs = call ptr @pointer(ptr %descriptor, i64 ${PAIRS})
  br label %check
check:
  %index = phi i64 [ 0, %equalities ], [ %after, %compare ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %compare, label %yes
compare:
  %first_at = shl i64 %index, 1
  %second_at = add i64 %first_at, 1
  %first_slot = call i64 @word(ptr %pairs, i64 %first_at)
  %second_slot = call i64 @word(ptr %pairs, i64 %second_at)
  %first = call i64 @word(ptr %slots, i64 %first_slot)
  %second = call i64 @word(ptr %slots, i64 %second_slot)
  %equal = icmp eq i64 %first, %second
  %after = add nuw nsw i64 %index, 1
  br i1 %equal, label %check, label %no
yes:
  ret i1 true
no:
  ret i1 false
}

; ---- overlap --------------------------------------------------------------------------------
; The range of bytes that an array touches; an empty array touches none.
define internal { i64, i64 } @range_of(ptr %array, ptr %record) alwaysinline "no-builtins" {
start:
  %rank = call i64 @word(ptr %record, i64 ${RANK})
  %itemsize = call i64 @word(ptr %record, i64 ${ITEMSIZE})
  %dims = call ptr @array_dims(ptr %array)
  %strides = call ptr @array_strides(ptr %array)
  %data = call ptr @array_data(ptr %array)
  %base = ptrtoint ptr %data to i64
  %behind = add i64 %base, %itemsize
  br label %check
check:
  %axis = phi i64 [ 0, %start ], [ %after, %add ]
  %low = phi i64 [ %base, %start ], [ %low_after, %add ]
  %high = phi i64 [ %behind, %start ], [ %high_after, %add ]
  %more = icmp ult i64 %axis, %rank
  br i1 %more, label %one, label %done
one:
  %extent = call i64 @word(ptr %dims, i64 %axis)
  %empty = icmp eq i64 %extent, 0
  br i1 %empty, label %nothing, label %add
add:
  %stride = call i64 @word(ptr %strides, i64 %axis)
  %last = sub i64 %extent, 1
  %reach = mul i64 %last, %stride
  %below = call i64 @llvm.smin.i64(i64 %reach, i64 0)
  %above = call i64 @llvm.smax.i64(i64 %reach, i64 0)
  %low_after = add i64 %low, %below
  %high_after = add i64 %high, %above
  %after = add nuw nsw i64 %axis, 1
  br label %check
done:
  %half = insertvalue { i64, i64 } poison, i64 %low, 0
  %range = insertvalue { i64, i64 } %half, i64 %high, 1
  ret { i64, i64 } %range
nothing:
  ret { i64, i64 } zeroinitializer
}

; Does a range meet any of `count` others?
define internal i1 @meets(i64 %low, i64 %high, ptr %lows, ptr %highs, i64 %count) alwaysinline {
start:
  br label %check
check:
  %other = phi i64 [ 0, %start ], [ %after, %compare ]
  %more = icmp ult i64 %other, %count
  br i1 %more, label %compare, label %apart
compare:
  %other_low = call i64 @word(ptr %lows, i64 %other)
  %other_high = call i64 @word(ptr %highs, i64 %other)
  %starts = icmp ult i64 %other_low, %high
  %ends = icmp ult i64 %low, %other_high
  %meet = and i1 %starts, %ends
  %after = add nuw nsw i64 %other, 1
  br i1 %meet, label %together, label %check
apart:
  ret i1 false
together:
  ret i1 true
}

; The array given for one output: `out` itself, or a member of the tuple.
define internal ptr @given(ptr %out, i64 %outputs, i64 %index) alwaysinline {
start:
  %single = icmp eq i64 %outputs, 1
  br i1 %single, label %itself, label %member
itself:
  ret ptr %out
member:
  %item = call ptr @tuple_item(ptr %out, i64 %index)
  ret ptr %item
}

; Note the range of every input: `lows` and `highs`, one word each.
define internal void @note_inputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %lows,
                                  ptr %highs) alwaysinline "no-builtins" {
start:
  %records = call ptr @pointer(ptr %descriptor, i64 ${INPUT_RECORDS})
  br label %check
check:
  %index = phi i64 [ 0, %start ], [ %after, %note ]
  %record = phi ptr [ %records, %start ], [ %record_after, %note ]
  %more = icmp ult i64 %index, %inputs
  br i1 %more, label %one, label %done
one:
  %object = call ptr @pointer(ptr %args, i64 %index)
  %is_array = call i1 @is_ndarray(ptr %object)
  br i1 %is_array, label %array, label %note
array:
  %touched = call { i64, i64 } @range_of(ptr %object, ptr %record)
  br label %note
note:                                             ; a scalar is copied: it touches nothing
  %range = phi { i64, i64 } [ %touched, %array ], [ zeroinitializer, %one ]
  %low = extractvalue { i64, i64 } %range, 0
  %high = extractvalue { i64, i64 } %range, 1
  call void @set_word(ptr %lows, i64 %index, i64 %low)
  call void @set_word(ptr %highs, i64 %index, i64 %high)
  %after = add nuw nsw i64 %index, 1
  %record_after = call ptr @next_record(ptr %record)
  br label %check
done:
  ret void
}

; May the program write into `out`? Nothing is written here. Each output is compared with the
; inputs and with the outputs before it.
define internal i1 @check_out(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots, ptr %frame,
                              ptr %out) "no-builtins" {
start:
  %outputs = call i64 @word(ptr %descriptor, i64 ${OUTPUTS})
  %all = add i64 %inputs, %outputs
  %lows = call ptr @part(ptr %descriptor, ptr %frame, i64 ${INTERVALS})
  %highs = getelementptr i64, ptr %lows, i64 %all
  %single = icmp eq i64 %outputs, 1
  br i1 %single, label %inputs_first, label %members
members:
  %type = call ptr @type_of(ptr %out)
  %tuple = call ptr @address_of_object_tuple()
  %is_tuple = icmp eq ptr %type, %tuple
  br i1 %is_tuple, label %members_count, label %no
members_count:
  %size = call i64 @tuple_size(ptr %out)
  %complete = icmp eq i64 %size, %outputs
  br i1 %complete, label %inputs_first, label %no
inputs_first:
  call void @note_inputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %lows, ptr %highs)
  %records = call ptr @pointer(ptr %descriptor, i64 ${OUTPUT_RECORDS})
  br label %check
check:
  %index = phi i64 [ 0, %inputs_first ], [ %after, %note ]
  %record = phi ptr [ %records, %inputs_first ], [ %record_after, %note ]
  %more = icmp ult i64 %index, %outputs
  br i1 %more, label %one, label %yes
one:
  %item = call ptr @given(ptr %out, i64 %outputs, i64 %index)
  %is_array = call i1 @is_ndarray(ptr %item)
  br i1 %is_array, label %array, label %no
array:
  %suits = call i1 @suits(ptr %item, ptr %record, i32 ${OWNABLE})
  br i1 %suits, label %extents, label %no
extents:
  %dims = call ptr @array_dims(ptr %item)
  %fits = call i1 @bind(ptr %dims, ptr %record, ptr %slots)
  br i1 %fits, label %compare, label %no
compare:
  %position = add i64 %inputs, %index
  %range = call { i64, i64 } @range_of(ptr %item, ptr %record)
  %low = extractvalue { i64, i64 } %range, 0
  %high = extractvalue { i64, i64 } %range, 1
  %clash = call i1 @meets(i64 %low, i64 %high, ptr %lows, ptr %highs, i64 %position)
  br i1 %clash, label %no, label %note
note:
  call void @set_word(ptr %lows, i64 %position, i64 %low)
  call void @set_word(ptr %highs, i64 %position, i64 %high)
  %after = add nuw nsw i64 %index, 1
  %record_after = call ptr @next_record(ptr %record)
  br label %check
yes:
  ret i1 true
no:
  ret i1 false
}

; May the program write into the donated arguments? Each is compared with every other input.
define internal i1 @check_donations(ptr %descriptor, ptr %args, i64 %inputs,
                                    ptr %frame) noinline "no-builtins" {
start:
  %lows = call ptr @part(ptr %descriptor, ptr %frame, i64 ${INTERVALS})
  %highs = getelementptr i64, ptr %lows, i64 %inputs
  call void @note_inputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %lows, ptr %highs)
  %records = call ptr @pointer(ptr %descriptor, i64 ${INPUT_RECORDS})
  br label %check
check:
  %index = phi i64 [ 0, %start ], [ %after, %next ]
  %record = phi ptr [ %records, %start ], [ %record_after, %next ]
  %more = icmp ult i64 %index, %inputs
  br i1 %more, label %one, label %yes
one:
  %after = add nuw nsw i64 %index, 1
  %partner = call i64 @word(ptr %record, i64 ${PARTNER})
  %kept = icmp slt i64 %partner, 0
  br i1 %kept, label %next, label %before
before:
  %low = call i64 @word(ptr %lows, i64 %index)
  %high = call i64 @word(ptr %highs, i64 %index)
  %meets_before = call i1 @meets(i64 %low, i64 %high, ptr %lows, ptr %highs, i64 %index)
  br i1 %meets_before, label %no, label %behind
behind:
  %lows_behind = getelementptr i64, ptr %lows, i64 %after
  %highs_behind = getelementptr i64, ptr %highs, i64 %after
  %left = sub i64 %inputs, %after
  %meets_behind = call i1 @meets(i64 %low, i64 %high, ptr %lows_behind, ptr %highs_behind,
                                 i64 %left)
  br i1 %meets_behind, label %no, label %next
next:
  %record_after = call ptr @next_record(ptr %record)
  br label %check
yes:
  ret i1 true
no:
  ret i1 false
}

; ---- outputs --------------------------------------------------------------------------------
@capsule_name = internal constant [13 x i8] c"graphc.block\00"

; The destructor of an output's owner.
define void @block_release(ptr %capsule) uwtable {
  %block = call ptr @PyCapsule_GetPointer(ptr %capsule, ptr @capsule_name)
  call void @block_give(ptr %block)
  ret void
}

; A new array over a recycled block, or null with an exception set.
define internal ptr @new_large(ptr %descr, i32 %rank, ptr %dims, i64 %bytes) noinline uwtable {
start:
  %block = call ptr @block_take(i64 %bytes)
  %no_block = icmp eq ptr %block, null
  br i1 %no_block, label %plain, label %own
own:
  %capsule = call ptr @PyCapsule_New(ptr %block, ptr @capsule_name, ptr @block_release)
  %no_capsule = icmp eq ptr %capsule, null
  br i1 %no_capsule, label %give_back, label %wrap
give_back:
  call void @block_give(ptr %block)
  ret ptr null
wrap:
  %ndarray = call ptr @address_of_object_ndarray()
  call void @Py_IncRef(ptr %descr)
  %array = call ptr @PyArray_NewFromDescr(ptr %ndarray, ptr %descr, i32 %rank, ptr %dims, ptr null,
                                          ptr %block, i32 ${OWNABLE}, ptr null)
  %no_array = icmp eq ptr %array, null
  br i1 %no_array, label %drop, label %attach
drop:
  call void @Py_DecRef(ptr %capsule)
  ret ptr null
attach:                                           ; steals the capsule, also when it fails
  %code = call i32 @PyArray_SetBaseObject(ptr %array, ptr %capsule)
  %attached = icmp eq i32 %code, 0
  br i1 %attached, label %done, label %undo
undo:
  call void @Py_DecRef(ptr %array)
  ret ptr null
done:
  ret ptr %array
plain:                                            ; let NumPy try, and report if it cannot either
  %type = call ptr @address_of_object_ndarray()
  call void @Py_IncRef(ptr %descr)
  %last = call ptr @PyArray_NewFromDescr(ptr %type, ptr %descr, i32 %rank, ptr %dims, ptr null,
                                         ptr null, i32 0, ptr null)
  ret ptr %last
}

; A new array as the record says, or null with an exception set.
define internal ptr @new_output(ptr %record, ptr %slots) alwaysinline {
start:
  %dims = alloca [64 x i64], align 64
  %rank = call i64 @word(ptr %record, i64 ${RANK})
  %descr = call ptr @pointer(ptr %record, i64 ${DESCR})
  %itemsize = call i64 @word(ptr %record, i64 ${ITEMSIZE})
  %rank_short = trunc i64 %rank to i32
  br label %check
check:
  %axis = phi i64 [ 0, %start ], [ %after, %one ]
  %bytes = phi i64 [ %itemsize, %start ], [ %bytes_after, %one ]
  %wrong = phi i1 [ false, %start ], [ %wrong_after, %one ]
  %more = icmp ult i64 %axis, %rank
  br i1 %more, label %one, label %allocate
one:
  %extent = call i64 @extent_of(ptr %record, i64 %axis, ptr %slots)
  call void @set_word(ptr %dims, i64 %axis, i64 %extent)
  %product = call { i64, i1 } @llvm.umul.with.overflow.i64(i64 %bytes, i64 %extent)
  %bytes_after = extractvalue { i64, i1 } %product, 0
  %overflow = extractvalue { i64, i1 } %product, 1
  %wrong_after = or i1 %wrong, %overflow
  %after = add nuw nsw i64 %axis, 1
  br label %check
allocate:
  %big = icmp uge i64 %bytes, ${LARGE_BYTES}
  %right = xor i1 %wrong, true
  %pooled = and i1 %big, %right
  br i1 %pooled, label %large, label %small
large:
  %block_array = call ptr @new_large(ptr %descr, i32 %rank_short, ptr %dims, i64 %bytes)
  ret ptr %block_array
small:                                            ; NumPy also reports sizes that overflow
  %ndarray = call ptr @address_of_object_ndarray()
  call void @Py_IncRef(ptr %descr)
  %array = call ptr @PyArray_NewFromDescr(ptr %ndarray, ptr %descr, i32 %rank_short, ptr %dims,
                                          ptr null, ptr null, i32 0, ptr null)
  ret ptr %array
}

; Fill the table of results with new references and note their data pointers. Returns how many
; there are; fewer than all means that an exception is set.
define internal i64 @make_outputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots, ptr %frame,
                                  ptr %out) "no-builtins" {
start:
  %outputs = call i64 @word(ptr %descriptor, i64 ${OUTPUTS})
  %input_buffers = call ptr @part(ptr %descriptor, ptr %frame, i64 ${BUFFERS})
  %buffers = getelementptr ptr, ptr %input_buffers, i64 %inputs
  %results = call ptr @part(ptr %descriptor, ptr %frame, i64 ${RESULTS})
  %records = call ptr @pointer(ptr %descriptor, i64 ${OUTPUT_RECORDS})
  %to_allocate = icmp eq ptr %out, null
  br label %check
check:
  %index = phi i64 [ 0, %start ], [ %after, %next ]
  %record = phi ptr [ %records, %start ], [ %record_after, %next ]
  %more = icmp ult i64 %index, %outputs
  br i1 %more, label %one, label %done
one:
  %partner = call i64 @word(ptr %record, i64 ${PARTNER})
  %donated = icmp sge i64 %partner, 0
  br i1 %donated, label %reuse, label %supply
reuse:
  %donor = call ptr @pointer(ptr %args, i64 %partner)
  br label %share
supply:
  br i1 %to_allocate, label %allocate, label %use_given
use_given:
  %item = call ptr @given(ptr %out, i64 %outputs, i64 %index)
  br label %share
share:
  %shared = phi ptr [ %donor, %reuse ], [ %item, %use_given ]
  call void @Py_IncRef(ptr %shared)
  br label %next
allocate:
  %new = call ptr @new_output(ptr %record, ptr %slots)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %done, label %next
next:
  %array = phi ptr [ %shared, %share ], [ %new, %allocate ]
  %data = call ptr @array_data(ptr %array)
  call void @set_pointer(ptr %results, i64 %index, ptr %array)
  call void @set_pointer(ptr %buffers, i64 %index, ptr %data)
  %after = add nuw nsw i64 %index, 1
  %record_after = call ptr @next_record(ptr %record)
  br label %check
done:
  %made = phi i64 [ %index, %check ], [ %index, %allocate ]
  ret i64 %made
}

define void @release(ptr %results, i64 %count) noinline "no-builtins" {
start:
  br label %check
check:
  %index = phi i64 [ 0, %start ], [ %after, %one ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %one, label %done
one:
  %result = call ptr @pointer(ptr %results, i64 %index)
  call void @Py_DecRef(ptr %result)
  %after = add nuw nsw i64 %index, 1
  br label %check
done:
  ret void
}

; ---- workspace ------------------------------------------------------------------------------
; The Function's own workspace if no other call has it and it is large enough, else another block.
define ptr @take_workspace(ptr %descriptor, i64 %bytes) {
start:
  %slot = getelementptr i64, ptr %descriptor, i64 ${WORKSPACE}
  %word = atomicrmw xchg ptr %slot, i64 0 acq_rel
  %none = icmp eq i64 %word, 0
  br i1 %none, label %fresh, label %measure
measure:
  %kept = inttoptr i64 %word to ptr
  %size = call i64 @block_bytes(ptr %kept)
  %enough = icmp uge i64 %size, %bytes
  br i1 %enough, label %use, label %replace
use:
  ret ptr %kept
replace:
  call void @block_give(ptr %kept)
  br label %fresh
fresh:
  %block = call ptr @block_take(i64 %bytes)
  ret ptr %block
}

define void @keep_workspace(ptr %descriptor, ptr %block) {
start:
  %size = call i64 @block_bytes(ptr %block)
  %modest = icmp ule i64 %size, ${RETAINED_WORKSPACE_BYTES}
  br i1 %modest, label %keep, label %give
keep:
  %slot = getelementptr i64, ptr %descriptor, i64 ${WORKSPACE}
  %word = ptrtoint ptr %block to i64
  %before = atomicrmw xchg ptr %slot, i64 %word acq_rel
  %none = icmp eq i64 %before, 0
  br i1 %none, label %done, label %give_other
give_other:                                       ; a call at the same time kept its own
  %other = inttoptr i64 %before to ptr
  call void @block_give(ptr %other)
  ret void
give:
  call void @block_give(ptr %block)
  ret void
done:
  ret void
}

; ---- results --------------------------------------------------------------------------------
; Pack the results; their references go into the container, or are released.
define ptr @pack(ptr %descriptor, ptr %results, i64 %count) uwtable {
start:
  %packing = call i64 @word(ptr %descriptor, i64 ${PACKING})
  switch i64 %packing, label %tuple [
    i64 ${PACKING_SINGLE}, label %single
    i64 ${PACKING_LIST}, label %list
  ]
single:
  %only = call ptr @pointer(ptr %results, i64 0)
  ret ptr %only
list:
  %new_list = call ptr @PyList_New(i64 %count)
  %no_list = icmp eq ptr %new_list, null
  br i1 %no_list, label %failed, label %list_check
list_check:
  %list_index = phi i64 [ 0, %list ], [ %list_after, %list_one ]
  %list_more = icmp ult i64 %list_index, %count
  br i1 %list_more, label %list_one, label %list_done
list_one:
  %list_item = call ptr @pointer(ptr %results, i64 %list_index)
  call i32 @PyList_SetItem(ptr %new_list, i64 %list_index, ptr %list_item)
  %list_after = add nuw nsw i64 %list_index, 1
  br label %list_check
list_done:
  ret ptr %new_list
tuple:
  %new_tuple = call ptr @PyTuple_New(i64 %count)
  %no_tuple = icmp eq ptr %new_tuple, null
  br i1 %no_tuple, label %failed, label %tuple_check
tuple_check:
  %index = phi i64 [ 0, %tuple ], [ %after, %tuple_one ]
  %more = icmp ult i64 %index, %count
  br i1 %more, label %tuple_one, label %tuple_done
tuple_one:
  %item = call ptr @pointer(ptr %results, i64 %index)
  call i32 @PyTuple_SetItem(ptr %new_tuple, i64 %index, ptr %item)
  %after = add nuw nsw i64 %index, 1
  br label %tuple_check
tuple_done:
  %other = icmp eq i64 %packing, ${PACKING_CALLABLE}
  br i1 %other, label %unflatten, label %flat
flat:
  ret ptr %new_tuple
unflatten:
  %callable = call ptr @pointer(ptr %descriptor, i64 ${UNFLATTEN})
  %packed = call ptr @PyObject_CallOneArg(ptr %callable, ptr %new_tuple)
  call void @Py_DecRef(ptr %new_tuple)
  ret ptr %packed
failed:
  call void @release(ptr %results, i64 %count)
  ret ptr null
}

; The program failed with `code`, or a signal handler raised: set the exception if none is pending.
define void @report(ptr %descriptor, ptr %status, i64 %code) noinline uwtable {
start:
  %arguments = alloca [2 x ptr], align 16
  %noted = call i64 @word(ptr %status, i64 ${CODE})
  %unnoted = icmp eq i64 %noted, 0
  %known = select i1 %unnoted, i64 %code, i64 %noted
  call void @set_word(ptr %status, i64 ${CODE}, i64 %known)
  %pending = call ptr @PyErr_Occurred()
  %is_pending = icmp ne ptr %pending, null
  br i1 %is_pending, label %done, label %compose
compose:
  %words = call ptr @PyBytes_FromStringAndSize(ptr %status, i64 ${STATUS_BYTES})
  %no_words = icmp eq ptr %words, null
  br i1 %no_words, label %done, label %ask
ask:
  %implementation = call ptr @pointer(ptr %descriptor, i64 ${IMPLEMENTATION})
  call void @set_pointer(ptr %arguments, i64 0, ptr %implementation)
  call void @set_pointer(ptr %arguments, i64 1, ptr %words)
  %name = call ptr @address_of_object_failed()
  %answer = call ptr @PyObject_VectorcallMethod(ptr %name, ptr %arguments, i64 2, ptr null)
  call void @Py_DecRef(ptr %words)
  ret void
done:
  ret void
}

; ---- the entry ------------------------------------------------------------------------------
; The value of the one keyword understood here: null if absent or None, 1 if there are others.
define internal ptr @keyword_out(ptr %names, ptr %args, i64 %count) alwaysinline {
start:
  %absent = icmp eq ptr %names, null
  br i1 %absent, label %nothing, label %some
some:
  %size = call i64 @tuple_size(ptr %names)
  %one = icmp eq i64 %size, 1
  br i1 %one, label %compare, label %unusual
compare:
  %name = call ptr @tuple_item(ptr %names, i64 0)
  %wanted = call ptr @address_of_object_out()
  %is_out = icmp eq ptr %name, %wanted
  br i1 %is_out, label %value, label %unusual
value:
  %out = call ptr @pointer(ptr %args, i64 %count)
  %none = call ptr @address_of_object_none()
  %is_none = icmp eq ptr %out, %none
  br i1 %is_none, label %nothing, label %given
given:
  ret ptr %out
nothing:
  ret ptr null
unusual:
  ret ptr inttoptr (i64 1 to ptr)
}

; The arguments of a call with names, in the order of the inputs, then `out` or null; null if there
; are others than the inputs', some missing, or some that only a comparison of texts would find.
define internal ptr @arrange(ptr %descriptor, ptr %frame, ptr %args, i64 %count,
                             ptr %names) noinline "no-builtins" {
start:
  %inputs = call i64 @word(ptr %descriptor, i64 ${INPUTS})
  %arranged = call ptr @part(ptr %descriptor, ptr %frame, i64 ${ARGUMENTS})
  %known = call ptr @pointer(ptr %descriptor, i64 ${NAMES})
  %named = call i64 @tuple_size(ptr %names)
  %out_name = call ptr @address_of_object_out()
  %too_many = icmp ugt i64 %count, %inputs
  br i1 %too_many, label %unusual, label %clear
clear:                                            ; what comes by position, null for the others
  %index = phi i64 [ 0, %start ], [ %after, %clear_next ]
  %placed = icmp ult i64 %index, %count
  br i1 %placed, label %take, label %clear_next
take:
  %positional = call ptr @pointer(ptr %args, i64 %index)
  br label %clear_next
clear_next:
  %first = phi ptr [ null, %clear ], [ %positional, %take ]
  call void @set_pointer(ptr %arranged, i64 %index, ptr %first)
  %after = add nuw nsw i64 %index, 1
  %more = icmp ule i64 %after, %inputs
  br i1 %more, label %clear, label %name
name:
  %number = phi i64 [ 0, %clear_next ], [ %number_after, %put ]
  %names_left = icmp ult i64 %number, %named
  br i1 %names_left, label %one, label %complete
one:
  %text = call ptr @tuple_item(ptr %names, i64 %number)
  %is_out = icmp eq ptr %text, %out_name
  br i1 %is_out, label %found, label %search
search:
  %input = phi i64 [ %count, %one ], [ %input_after, %compare ]
  %inputs_left = icmp ult i64 %input, %inputs
  br i1 %inputs_left, label %compare, label %unusual
compare:
  %candidate = call ptr @pointer(ptr %known, i64 %input)
  %input_after = add nuw nsw i64 %input, 1
  %same = icmp eq ptr %candidate, %text
  br i1 %same, label %found, label %search
found:
  %place = phi i64 [ %inputs, %one ], [ %input, %compare ]
  %before = call ptr @pointer(ptr %arranged, i64 %place)
  %free = icmp eq ptr %before, null
  br i1 %free, label %put, label %unusual
put:
  %value_at = add i64 %count, %number
  %value = call ptr @pointer(ptr %args, i64 %value_at)
  call void @set_pointer(ptr %arranged, i64 %place, ptr %value)
  %number_after = add nuw nsw i64 %number, 1
  br label %name
complete:
  %last = phi i64 [ %count, %name ], [ %last_after, %given ]
  %unchecked = icmp ult i64 %last, %inputs
  br i1 %unchecked, label %given, label %done
given:
  %argument = call ptr @pointer(ptr %arranged, i64 %last)
  %last_after = add nuw nsw i64 %last, 1
  %missing = icmp eq ptr %argument, null
  br i1 %missing, label %unusual, label %complete
done:
  ret ptr %arranged
unusual:
  ret ptr null
}

; One call. Returns a new reference, null with an exception set, or 1: take the slow path, nothing
; has been done.
define internal ptr @attempt(ptr %descriptor, ptr %frame, ptr %given, i64 %nargsf,
                             ptr %names) uwtable {
start:
  %status = alloca [${STATUS_WORDS} x i64], align 64
  %count = and i64 %nargsf, 9223372036854775807
  %inputs = call i64 @word(ptr %descriptor, i64 ${INPUTS})
  %counted = icmp eq i64 %count, %inputs
  br i1 %counted, label %keywords, label %fewer
keywords:
  %only = call ptr @keyword_out(ptr %names, ptr %given, i64 %inputs)
  %unusual = icmp eq ptr %only, inttoptr (i64 1 to ptr)
  br i1 %unusual, label %slow, label %arguments
fewer:
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %slow, label %arrange
arrange:
  %arranged = call ptr @arrange(ptr %descriptor, ptr %frame, ptr %given, i64 %count, ptr %names)
  %others = icmp eq ptr %arranged, null
  br i1 %others, label %slow, label %ordered
ordered:
  %named = call ptr @pointer(ptr %arranged, i64 %inputs)
  %none = call ptr @address_of_object_none()
  %is_none = icmp eq ptr %named, %none
  %named_out = select i1 %is_none, ptr null, ptr %named
  br label %arguments
arguments:
  %args = phi ptr [ %given, %keywords ], [ %arranged, %ordered ]
  %out = phi ptr [ %only, %keywords ], [ %named_out, %ordered ]
  %slots = call ptr @initial_slots(ptr %descriptor, ptr %frame)
  %layout = call i64 @take_inputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots, ptr %frame)
  %refused = icmp slt i64 %layout, 0
  br i1 %refused, label %slow, label %choose
choose:
  %strided = icmp ne i64 %layout, 0
  %which = select i1 %strided, i64 ${STRIDED}, i64 ${CONTIGUOUS}
  %program = call ptr @pointer(ptr %descriptor, i64 %which)
  %missing = icmp eq ptr %program, null
  br i1 %missing, label %slow, label %clear
clear:
  store [${STATUS_WORDS} x i64] zeroinitializer, ptr %status, align 64
  %derived = call i1 @derive(ptr %descriptor, ptr %slots, ptr %status)
  br i1 %derived, label %writes, label %slow
writes:
  %donations = call i64 @word(ptr %descriptor, i64 ${DONATIONS})
  %no_out = icmp eq ptr %out, null
  %no_donation = icmp eq i64 %donations, 0
  br i1 %no_out, label %donated, label %into
into:                                             ; `out` with donations is for the slow path
  br i1 %no_donation, label %check_out, label %slow
check_out:
  %writable = call i1 @check_out(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots, ptr %frame,
                                 ptr %out)
  br i1 %writable, label %strides, label %slow
donated:
  br i1 %no_donation, label %strides, label %check_donations
check_donations:
  %lent = call i1 @check_donations(ptr %descriptor, ptr %args, i64 %inputs, ptr %frame)
  br i1 %lent, label %strides, label %slow
strides:
  br i1 %strided, label %weigh, label %outputs
weigh:                        ; where there is much to do, another order of the axes may be worth a
  %weight_slot = call i64 @word(ptr %descriptor, i64 ${WORK_SLOT})            ; variant: see turned.py
  %weight = call i64 @word(ptr %slots, i64 %weight_slot)
  %light = call i64 @word(ptr %descriptor, i64 ${THRESHOLD})
  %limit = shl i64 %light, 3
  %heavy = icmp sgt i64 %weight, %limit
  br i1 %heavy, label %slow, label %describe
describe:
  call void @fill_strides(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots, ptr %frame)
  br label %outputs
outputs:
  %results = call ptr @part(ptr %descriptor, ptr %frame, i64 ${RESULTS})
  %expected = call i64 @word(ptr %descriptor, i64 ${OUTPUTS})
  %made = call i64 @make_outputs(ptr %descriptor, ptr %args, i64 %inputs, ptr %slots, ptr %frame,
                                 ptr %out)
  %complete = icmp eq i64 %made, %expected
  br i1 %complete, label %arena, label %undo
undo:
  call void @release(ptr %results, i64 %made)
  ret ptr null
arena:
  %bytes_slot = call i64 @word(ptr %descriptor, i64 ${WORKSPACE_SLOT})
  %bytes = call i64 @word(ptr %slots, i64 %bytes_slot)
  %needless = icmp sle i64 %bytes, 0
  br i1 %needless, label %go, label %take_arena
take_arena:
  %taken = call ptr @take_workspace(ptr %descriptor, i64 %bytes)
  %no_memory = icmp eq ptr %taken, null
  br i1 %no_memory, label %no_arena, label %go
no_arena:
  call void @release(ptr %results, i64 %made)
  br label %slow
go:
  %workspace = phi ptr [ null, %arena ], [ %taken, %take_arena ]
  %buffers = call ptr @part(ptr %descriptor, ptr %frame, i64 ${BUFFERS})
  %strides_words = call ptr @part(ptr %descriptor, ptr %frame, i64 ${STRIDES})
  %work_slot = call i64 @word(ptr %descriptor, i64 ${WORK_SLOT})
  %work = call i64 @word(ptr %slots, i64 %work_slot)
  %threshold = call i64 @word(ptr %descriptor, i64 ${THRESHOLD})
  %release = icmp sgt i64 %work, %threshold
  %code = call i64 @run(ptr %program, ptr %buffers, ptr %slots, ptr %strides_words, ptr %workspace,
                        ptr %status, i1 %release)
  %no_workspace = icmp eq ptr %workspace, null
  br i1 %no_workspace, label %judge, label %keep
keep:
  call void @keep_workspace(ptr %descriptor, ptr %workspace)
  br label %judge
judge:
  %cancel = call i64 @word(ptr %status, i64 ${CANCEL})
  %trouble = or i64 %code, %cancel
  %success = icmp eq i64 %trouble, 0
  br i1 %success, label %good, label %bad
good:
  %packed = call ptr @pack(ptr %descriptor, ptr %results, i64 %made)
  ret ptr %packed
bad:
  call void @report(ptr %descriptor, ptr %status, i64 %code)
  call void @release(ptr %results, i64 %made)
  ret ptr null
slow:
  ret ptr inttoptr (i64 1 to ptr)
}

; PyObject *entry(self, args, nargsf, kwnames): the vectorcall function of every Function.
define ptr @entry(ptr %self, ptr %args, i64 %nargsf, ptr %names) uwtable {
start:
  %stack = alloca [${STACK_WORDS} x i64], align 64
  %descriptor_at = getelementptr i8, ptr %self, i64 ${SELF_DESCRIPTOR}
  %descriptor = load ptr, ptr %descriptor_at, align 8
  %countdown = call i64 @word(ptr %descriptor, i64 ${COUNTDOWN})
  %left = sub i64 %countdown, 1
  call void @set_word(ptr %descriptor, i64 ${COUNTDOWN}, i64 %left)
  %due = icmp eq i64 %left, 0
  br i1 %due, label %slow, label %measure
measure:
  %words = call i64 @word(ptr %descriptor, i64 ${FRAME})
  %small = icmp ule i64 %words, ${STACK_WORDS}
  br i1 %small, label %ready, label %allocate
allocate:
  %bytes = shl i64 %words, 3
  %block = call ptr @block_take(i64 %bytes)
  %no_block = icmp eq ptr %block, null
  br i1 %no_block, label %slow, label %ready
ready:
  %frame = phi ptr [ %stack, %measure ], [ %block, %allocate ]
  %result = call ptr @attempt(ptr %descriptor, ptr %frame, ptr %args, i64 %nargsf, ptr %names)
  br i1 %small, label %judge, label %free
free:
  call void @block_give(ptr %frame)
  br label %judge
judge:
  %unusual = icmp eq ptr %result, inttoptr (i64 1 to ptr)
  br i1 %unusual, label %slow, label %done
done:
  ret ptr %result
slow:
  %slow_at = getelementptr i8, ptr %self, i64 ${SELF_SLOW}
  %callable = load ptr, ptr %slow_at, align 8
  %answer = call ptr @PyObject_Vectorcall(ptr %callable, ptr %args, i64 %nargsf, ptr %names)
  ret ptr %answer
}
