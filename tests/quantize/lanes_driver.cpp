// Runs one kernel over the rows of a file, through the C interface of lanes.cpp, and writes the blocks, or the sums, to
// stdout.
//
// It is for sanitizers, so the kernel gets each of its buffers on the heap, not a byte larger than it may touch: first one
// row, then the next two, then three, … until none are left. So blocks fill the lanes in some calls and not in others. In
// every other call rows and blocks begin at an odd address; floats that are added to do not.

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
void lanes_add_low_rank(int number, float* y, const float* b, const float* a, int64_t n, int64_t rank, int64_t row);
}

namespace {

const char* const USAGE =
    "usage: lanes_driver VARIANT TYPE STORED ROW BYTES ROWS_FILE [IMATRIX_FILE] [--wrong=rows|imatrix|blocks|count]\n"
    "       lanes_driver VARIANT add_low_rank RANK ROW ROWS_FILE B_FILE A_FILE [--wrong=rows|b|a]\n"
    "TYPE and STORED are numbers of ggml_type; ROW is the weights of a row, BYTES are those of its blocks. B are RANK\n"
    "floats for each row, A are RANK rows. --wrong does what no caller may: it gives the kernel a buffer that is a byte\n"
    "too small, or more rows than can be counted.";

const char* const ADD_LOW_RANK = "add_low_rank";

struct Arguments {
    std::string variant, rows_file, imatrix_file, wrong;
    int type, stored;
    int64_t row, row_blocks;  // weights of a row, bytes of its blocks
};

struct Sum {
    std::string variant, rows_file, b_file, a_file, wrong;
    int64_t rank, row;
};

int64_t number(const std::string& text) {
    size_t end = 0;
    const int64_t value = std::stoll(text, &end);
    if (end != text.size()) throw std::invalid_argument(text);
    return value;
}

// What --wrong says, the last word, which is taken away; empty if it is another.
std::string wrong_of(std::vector<std::string>& words) {
    const std::string option = "--wrong=";
    if (words.empty() || words.back().compare(0, option.size(), option) != 0) return "";
    const std::string wrong = words.back().substr(option.size());
    words.pop_back();
    return wrong;
}

Sum sum_of(std::vector<std::string> words) {
    const std::string wrong = wrong_of(words);
    if (words.size() != 7) throw std::runtime_error(USAGE);
    try {
        return {words[0], words[4], words[5], words[6], wrong, number(words[2]), number(words[3])};
    } catch (const std::logic_error&) {
        throw std::runtime_error(USAGE);
    }
}

Arguments arguments_of(std::vector<std::string> words) {
    Arguments arguments;
    arguments.wrong = wrong_of(words);
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

int number_of(const std::string& variant) {
    for (int i = 0; const char* name = lanes_variant(i); ++i)
        if (name == variant) return i;
    throw std::runtime_error("this processor has no variant " + variant);
}

const lanes::Kernel* kernel_of(const std::string& variant, int type) {
    if (const lanes::Kernel* kernel = lanes_kernel(number_of(variant), type)) return kernel;
    throw std::runtime_error(variant + " has no kernel for type " + std::to_string(type));
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

// `size` bytes of `from` in a buffer of their own, or one fewer.
Buffer copy_of(const char* from, size_t size, bool less) {
    Buffer buffer(size - less, false);
    memcpy(buffer.begin(), from, size - less);
    return buffer;
}

void run(const Sum& sum) {
    const int variant = number_of(sum.variant);
    const std::vector<char> rows = contents(sum.rows_file), b = contents(sum.b_file), a = contents(sum.a_file);
    const size_t row_bytes = (size_t)sum.row * sizeof(float), rank_bytes = (size_t)sum.rank * sizeof(float);
    if (sum.row <= 0 || rows.empty() || rows.size() % row_bytes != 0)
        throw std::runtime_error("the rows file has no whole rows");
    const size_t n_rows = rows.size() / row_bytes;
    if (sum.rank <= 0 || b.size() != n_rows * rank_bytes || a.size() != (size_t)sum.rank * row_bytes)
        throw std::runtime_error("the files of B and A are not of that rank");

    const Buffer right = copy_of(a.data(), a.size(), sum.wrong == "a");
    for (size_t first = 0, most = 1; first < n_rows; first += most, ++most) {
        const size_t n = n_rows - first < most ? n_rows - first : most;
        const Buffer left = copy_of(b.data() + first * rank_bytes, n * rank_bytes, sum.wrong == "b");
        const Buffer y = copy_of(rows.data() + first * row_bytes, n * row_bytes, sum.wrong == "rows");
        lanes_add_low_rank(variant, (float*)y.begin(), (const float*)left.begin(), (const float*)right.begin(),
                           (int64_t)n, sum.rank, sum.row);
        if (fwrite(y.begin(), 1, n * row_bytes, stdout) != n * row_bytes) throw std::runtime_error("cannot write the sums");
    }
    if (fflush(stdout) != 0) throw std::runtime_error("cannot write the sums");
}

}  // namespace

int main(int count, char** words) {
    try {
        const std::vector<std::string> said(words + 1, words + count);
        if (said.size() > 1 && said[1] == ADD_LOW_RANK)
            run(sum_of(said));
        else
            run(arguments_of(said));
    } catch (const std::exception& error) {
        fprintf(stderr, "%s\n", error.what());
        return 2;
    }
    return 0;
}
