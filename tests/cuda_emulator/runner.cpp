// How is a kernel launched in a program of its own?
//
// The sanitizers end the process that they find fault with, and must be loaded first; so their
// modes run each launch in this small program, which takes the launch from a file and puts the
// arrays back there. Each array is its own malloc of the exact size: AddressSanitizer then watches
// both of its ends.
//
//   runner library kernel file
//
// The file holds 64-bit words: grid[3], block[3], shared bytes, order, seed, number of buffers,
// number of arguments; for each buffer its bytes; for each argument the buffer it points into or
// -1, and the offset in bytes or the value; then the contents of the buffers, each padded to whole
// words.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

namespace {
using Word = unsigned long long;
using Call = void (*)(void**);
using Launch = int (*)(Call, void**, const unsigned*, const unsigned*, size_t, int, Word, double);

[[noreturn]] void stop(const std::string& why) {
    fprintf(stderr, "EMULATOR: %s\n", why.c_str());
    exit(3);
}

template <class F> F find(void* library, const std::string& name) {
    void* address = dlsym(library, name.c_str());
    if (!address) stop("the library lacks " + name);
    return reinterpret_cast<F>(address);
}

std::vector<Word> read_words(const char* path) {
    FILE* file = fopen(path, "rb");
    if (!file) stop("cannot read the launch");
    fseek(file, 0, SEEK_END);
    std::vector<Word> words(size_t(ftell(file)) / sizeof(Word));
    rewind(file);
    if (fread(words.data(), sizeof(Word), words.size(), file) != words.size()) stop("a short read");
    fclose(file);
    return words;
}
}  // namespace

int main(int, char** argv) {
    void* library = dlopen(argv[1], RTLD_NOW);
    if (!library) stop(dlerror());
    auto launch = find<Launch>(library, "emulator_launch");
    auto message = find<const char* (*)()>(library, "emulator_message");
    auto call = find<Call>(library, std::string(argv[2]) + "__call");

    std::vector<Word> words = read_words(argv[3]);
    const Word* next = words.data();
    unsigned grid[3], block[3];
    for (unsigned& extent : grid) extent = unsigned(*next++);
    for (unsigned& extent : block) extent = unsigned(*next++);
    const Word shared_bytes = *next++, order = *next++, seed = *next++;
    const Word buffer_count = *next++, argument_count = *next++;
    const Word* bytes = next;
    const Word* arguments = bytes + buffer_count;
    Word* contents = words.data() + (arguments - words.data()) + 2 * argument_count;

    std::vector<char*> buffers;
    Word* content = contents;
    for (Word i = 0; i < buffer_count; content += (bytes[i++] + 7) / 8) {
        buffers.push_back(static_cast<char*>(malloc(bytes[i])));
        memcpy(buffers[i], content, bytes[i]);
    }
    std::vector<Word> values;
    for (Word i = 0; i < argument_count; ++i) {
        const Word buffer = arguments[2 * i], value = arguments[2 * i + 1];
        values.push_back(buffer == ~0ull ? value : reinterpret_cast<Word>(buffers[buffer] + value));
    }
    std::vector<void*> parameters;
    for (Word& value : values) parameters.push_back(&value);

    const double no_limit = 0;  // the caller ends this process instead
    if (launch(call, parameters.data(), grid, block, shared_bytes, int(order), seed, no_limit))
        stop(message());

    content = contents;
    for (Word i = 0; i < buffer_count; content += (bytes[i++] + 7) / 8)
        memcpy(content, buffers[i], bytes[i]);
    FILE* file = fopen(argv[3], "wb");
    fwrite(words.data(), sizeof(Word), words.size(), file);
    fclose(file);
    return 0;
}
