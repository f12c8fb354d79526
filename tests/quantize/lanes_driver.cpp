// Runs one kernel over the rows of a file, through the C interface of lanes.cpp, and writes the blocks to stdout.
//
// It is for sanitizers, so the kernel gets each of its buffers on the heap, not a byte larger than it may touch: first one
// row, then the next two, then three, … until none are left. So blocks fill the lanes in some calls and not in others. In
// every other call rows and blocks begin at an odd address.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../quantize/lanes/variant.h"

extern "C" {
const char* lanes_variant(int i);
const lanes::Kernel* lanes_kernel(int number, int type);
void lanes_quantize(const lanes::Kernel* kernel, const void* rows, int stored, int64_t n_rows, int64_t row,
                    const float* imatrix, void* blocks);
}

namespace {

const char* const USAGE =
    "usage: lanes_driver VARIANT TYPE STORED ROW BYTES ROWS_FILE [IMATRIX_FILE] [--wrong=rows|imatrix|blocks|count]\n"
    "TYPE and STORED are numbers of ggml_type; ROW is the weights of a row, BYTES are those of its blocks. --wrong does\n"
    "what no caller may: it gives the kernel a buffer that is a byte too small, or more rows than can be counted.";

struct Arguments {
    std::string variant, rows_file, imatrix_file, wrong;
    int type, stored;
    int64_t row, row_blocks;  // weights of a row, bytes of its blocks
};

int64_t number(const std::string& text) {
    size_t end = 0;
    const int64_t value = std::stoll(text, &end);
    if (end != text.size()) throw std::invalid_argument(text);
    return value;
}

Arguments arguments_of(std::vector<std::string> words) {
    Arguments arguments;
    const std::string option = "--wrong=";
    if (!words.empty() && words.back().compare(0, option.size(), option) == 0) {
        arguments.wrong = words.back().substr(option.size());
        words.pop_back();
    }
    if (words.size() != 6 && words.size() != 7) throw std::runtime_error(USAGE);
    arguments.variant = words[0];
    try {
        arguments.type = (int)number(words[1]);
        arguments.stored = (int)number(words[2]);
        arguments.row = number(words[3]);
        arguments.row_blocks = number(words[4]);
    } catch (const std::logic_error&) {
        throw std::runtime_error(USAGE);
    }
    arguments.rows_file = words[5];
    if (words.size() == 7) arguments.imatrix_file = words[6];
    return arguments;
}

std::vector<char> contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

const lanes::Kernel* kernel_of(const std::string& variant, int type) {
    for (int i = 0; const char* name = lanes_variant(i); ++i) {
        if (name != variant) continue;
        if (const lanes::Kernel* kernel = lanes_kernel(i, type)) return kernel;
        throw std::runtime_error(variant + " has no kernel for type " + std::to_string(type));
    }
    throw std::runtime_error("this processor has no variant " + variant);
}

int bytes_of_float(int stored) {
    switch (stored) {
        case 0: return 4;           // F32
        case 1: case 30: return 2;  // F16, BF16
        default: throw std::runtime_error("type " + std::to_string(stored) + " is not of floats");
    }
}

// Exactly `size` bytes of the heap, behind one that nobody uses if they must begin at an odd address.
class Buffer {
public:
    Buffer(size_t size, bool odd) : memory(new char[size + odd]), odd(odd) {}
    char* begin() const { return memory.get() + odd; }

private:
    std::unique_ptr<char[]> memory;
    bool odd;
};

void run(const Arguments& arguments) {
    const lanes::Kernel* kernel = kernel_of(arguments.variant, arguments.type);
    const auto less = [&](const char* buffer) { return arguments.wrong == buffer ? 1 : 0; };
    const size_t row_bytes = (size_t)arguments.row * bytes_of_float(arguments.stored);
    const std::vector<char> rows = contents(arguments.rows_file);
    if (arguments.row <= 0 || rows.empty() || rows.size() % row_bytes != 0)
        throw std::runtime_error("the rows file has no whole rows");

    std::vector<char> weights;
    if (!arguments.imatrix_file.empty()) {
        if (!kernel->takes_imatrix) throw std::runtime_error("the kernel takes no imatrix");
        weights = contents(arguments.imatrix_file);
        if (weights.size() != (size_t)arguments.row * sizeof(float))
            throw std::runtime_error("the imatrix file is not one row");
        weights.resize(weights.size() - less("imatrix"));
    }
    const Buffer imatrix(weights.size(), false);
    std::copy(weights.begin(), weights.end(), imatrix.begin());

    const size_t n_rows = rows.size() / row_bytes;
    for (size_t first = 0, most = 1; first < n_rows; first += most, ++most) {
        const size_t n = n_rows - first < most ? n_rows - first : most;
        const size_t in_bytes = n * row_bytes - less("rows");
        const size_t out_bytes = n * (size_t)arguments.row_blocks - less("blocks");
        const Buffer in(in_bytes, most % 2), out(out_bytes, most % 2);
        memcpy(in.begin(), rows.data() + first * row_bytes, in_bytes);
        lanes_quantize(kernel, in.begin(), arguments.stored, less("count") ? INT64_MAX : (int64_t)n, arguments.row,
                       weights.empty() ? nullptr : (const float*)imatrix.begin(), out.begin());
        if (fwrite(out.begin(), 1, out_bytes, stdout) != out_bytes) throw std::runtime_error("cannot write the blocks");
    }
    if (fflush(stdout) != 0) throw std::runtime_error("cannot write the blocks");
}

}  // namespace

int main(int count, char** words) {
    try {
        run(arguments_of({words + 1, words + count}));
    } catch (const std::exception& error) {
        fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    return 0;
}
