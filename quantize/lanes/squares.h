// Sums of squares of rows, or of blocks: each in the order of its weights, as ggml's, WIDTH of them at once.

#pragma once

#include "halves.h"

namespace {

class SumsOfSquares {
public:
    // Of n spans of `span` weights, a multiple of 32, one behind the other.
    SumsOfSquares(const void* data, Stored stored, int64_t n, int64_t span)
        : data((const char*)data), stored(stored), n(n), span(span) {}

    // That of span `number`, none of which is asked for after a greater one.
    float of(int64_t number) {
        if (number >= first + WIDTH) sum(number);
        return sums[number - first];
    }

private:
    static constexpr int STEP = 32;

    const char* const data;
    const Stored stored;
    const int64_t n, span;
    int64_t first = -WIDTH;
    Floats sums = {};

    void sum(int64_t number) {
        const int count = n - number < WIDTH ? (int)(n - number) : WIDTH;
        alignas(64) float x[WIDTH * STEP] = {};
        first = number;
        sums = Floats{};
        for (int64_t begin = 0; begin < span; begin += STEP) {
            for (int lane = 0; lane < count; ++lane)
                widen(data + ((first + lane) * span + begin) * stored_bytes(stored), stored, STEP, x + lane * STEP);
            Floats of_spans[STEP];
            to_lanes<STEP>(x, of_spans);
            for (int i = 0; i < STEP; ++i) sums += of_spans[i] * of_spans[i];
        }
    }
};

}  // namespace
