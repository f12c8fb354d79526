// Factors second moments and rounds the rows of a file, through the C interface of feedback.cpp, and writes the blocks to
// stdout. It is for sanitizers and emulators, so that every buffer is on the heap, not a byte larger than it may touch.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "quantize/feedback/kernels/variant.h"

extern "C" {
const char* feedback_variant(int i);
void feedback_shrink_rows(int number, const float* h, const int32_t* order, float keep, float damping, int64_t first,
                          const feedback::Factor* f);
bool feedback_factor_block(int number, int64_t first, const feedback::Factor* f);
void feedback_factor_strips(int number, int64_t first, int64_t begin, int64_t end, const feedback::Factor* f);
void feedback_subtract_block(int number, int64_t first, int64_t above, const feedback::Factor* f);
int64_t feedback_work_size(int number, int64_t n, int64_t n_rows);
void feedback_round_rows(int number, int type, const feedback::Rounding* rounding);
}

namespace {

constexpr int64_t BLOCK = 256;
const char* const USAGE = "usage: feedback_driver VARIANT TYPE N KEEP DAMPING SWEEPS ROWS MOMENTS ORDER BLOCKS";

template <class T>
std::vector<T> contents(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    const T* first = (const T*)bytes.data();
    return {first, first + bytes.size() / sizeof(T)};
}

int number_of(const std::string& variant) {
    for (int i = 0; const char* name = feedback_variant(i); ++i)
        if (name == variant) return i;
    throw std::runtime_error("this processor has no variant " + variant);
}

void run(const std::vector<std::string>& words) {
    if (words.size() != 10) throw std::runtime_error(USAGE);
    const int number = number_of(words[0]), type = std::atoi(words[1].c_str());
    const int64_t n = std::atoll(words[2].c_str());
    const float keep = std::strtof(words[3].c_str(), nullptr), damping = std::strtof(words[4].c_str(), nullptr);
    const std::vector<float> rows = contents<float>(words[6]), h = contents<float>(words[7]);
    const std::vector<int32_t> order = contents<int32_t>(words[8]);
    std::vector<char> blocks = contents<char>(words[9]);
    std::vector<float> a(n * n), d(n), raw(BLOCK * (n + 64)), moments(n * BLOCK);
    std::vector<int32_t> places(n);
    for (int64_t i = 0; i < n; ++i) places[order[i]] = (int32_t)i;
    const feedback::Factor f{a.data(), d.data(), raw.data(), n, n};
    for (int64_t first = 0; first < n; first += BLOCK) {
        feedback_shrink_rows(number, h.data(), order.data(), keep, damping, first, &f);
        for (int64_t j = first; j < first + BLOCK; ++j)
            for (int64_t i = 0; i < BLOCK; ++i) moments[j * BLOCK + i] = a[j * n + first + i];
    }
    for (int64_t first = n - BLOCK; first >= 0; first -= BLOCK) {
        if (!feedback_factor_block(number, first, &f)) throw std::runtime_error("not positive definite");
        feedback_factor_strips(number, first, 0, first, &f);
        for (int64_t above = 0; above < first; above += BLOCK) feedback_subtract_block(number, first, above, &f);
    }
    const int64_t n_rows = (int64_t)rows.size() / n;
    std::vector<float> work(feedback_work_size(number, n, n_rows));
    const feedback::Rounding rounding{f,      moments.data(),           order.data(),  places.data(), rows.data(),
                                      n_rows, std::atoi(words[5].c_str()), blocks.data(), work.data()};
    feedback_round_rows(number, type, &rounding);
    std::fwrite(blocks.data(), 1, blocks.size(), stdout);
}

}  // namespace

int main(int n, char** words) {
    try {
        run({words + 1, words + n});
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 2;
    }
}
