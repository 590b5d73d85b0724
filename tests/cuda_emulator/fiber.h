// How does one CPU thread switch between the threads of a CUDA block?
//
// A fiber is a stack and the point where it was left. On x86-64 Linux a switch is fifteen
// instructions; elsewhere ucontext does the same with a system call for the signal mask, ten times
// slower on a kernel of shuffles and barriers, with the same order of events.
#pragma once
#include <cstddef>

#if defined(__x86_64__) && defined(__linux__) && !defined(EMULATOR_UCONTEXT)

struct Context { void** stack_pointer; };

// The callee-saved registers are all that a C++ call may rely on: they are pushed here and popped
// on the way back in.
extern "C" __attribute__((visibility("hidden"))) void switch_stack(void*** from, void** to);
asm(R"(
    .text
    .globl switch_stack
    .hidden switch_stack
    .type switch_stack, @function
switch_stack:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size switch_stack, . - switch_stack
)");

inline void switch_context(Context& from, Context& to) {
    switch_stack(&from.stack_pointer, to.stack_pointer);
}

// `entry` must never return.
inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
    constexpr int callee_saved = 6;
    void** top = reinterpret_cast<void**>(stack + bytes);  // a multiple of 16
    *--top = nullptr;  // where entry would return to; and a call leaves the stack so aligned
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < callee_saved; ++i) *--top = nullptr;
    context.stack_pointer = top;
}

#else
#include <ucontext.h>

struct Context { ucontext_t state; };

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = bytes;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

#endif
