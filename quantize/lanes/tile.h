// A tile: the blocks that one search fills the lanes of vectors with, the importance of their weights, and what the search
// found.

#pragma once

#include "halves.h"
#include "search.h"

namespace {

// Sums of squares of rows, or of blocks: each in the order of its weights, as ggml's, WIDTH of them at once.
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

// Whose mean square is in the importance of a weight: of nothing, its block, or its row.
enum class Span { NONE, BLOCK, ROW };

// Blocks of BLOCK_WEIGHTS in sub-blocks of SUB, as many as fill the lanes of so many vectors.
template <int BLOCK_WEIGHTS_, int SUB, Span SPAN_, int VECTORS = 1>
struct Tile {
    static constexpr Span SPAN = SPAN_;
    static constexpr int BLOCK_WEIGHTS = BLOCK_WEIGHTS_, N_SUBS = BLOCK_WEIGHTS / SUB;
    static constexpr int LANES = N_SUBS > VECTORS * WIDTH ? N_SUBS : VECTORS * WIDTH;
    static constexpr int N_BLOCKS = LANES / N_SUBS, WEIGHTS = LANES * SUB;

    int n_blocks;  // that are there
    alignas(64) float x[WEIGHTS];
    alignas(64) float imatrix[WEIGHTS];  // the importance of each weight's column, if `weighted`
    bool weighted;
    float span;               // weights of a span
    float squares[N_BLOCKS];  // the sum of squares of the span that each block is or lies in, if `weighted`
    alignas(64) float scale[LANES], min[LANES], sum_w[LANES];
    Floats levels[LANES / WIDTH][SUB];

    // search_lanes(x, imatrix, levels, first lane) → Grid, of every vector of sub-blocks that are there.
    template <class SearchLanes>
    void search(SearchLanes search_lanes) {
        for (int first = 0; first < n_blocks * N_SUBS; first += WIDTH) {
            Floats x_lanes[SUB], imatrix_lanes[SUB];
            to_lanes<SUB>(x + first * SUB, x_lanes);
            if (weighted) to_lanes<SUB>(imatrix + first * SUB, imatrix_lanes);
            const Grid grid = search_lanes(x_lanes, imatrix_lanes, levels[first / WIDTH], first);
            memcpy(scale + first, &grid.scale, sizeof grid.scale);
            memcpy(min + first, &grid.min, sizeof grid.min);
        }
    }

    // Column weight × √(factor × mean square of the span + x²), and the sub-blocks' sums of these.
    void weigh(const Floats* x_lanes, const Floats* imatrix_lanes, int first, float factor, Floats* weights) {
        Floats mean = {}, sum = {};
        for (int lane = 0; lane < WIDTH; ++lane) mean[lane] = factor * squares[(first + lane) / N_SUBS] / span;
        for (int i = 0; i < SUB; ++i) {
            weights[i] = imatrix_lanes[i] * square_root(mean + x_lanes[i] * x_lanes[i]);
            sum += weights[i];
        }
        memcpy(sum_w + first, &sum, sizeof sum);
    }

    // Levels of the sub-block in a lane, counted from `low`: those nearest to x / d, or, where d is 0, those that the
    // search gave.
    void round(int lane, float d, int low, int high, uint8_t* out) const {
        if (d == 0)
            for (int i = 0; i < SUB; ++i) out[i] = (uint8_t)levels[lane / WIDTH][i][lane % WIDTH];
        else
            each_level<SUB>(
                x + lane * SUB, [=](Floats x) { return nearest_int(x / d, low, high) - low; }, out);
    }
};

}  // namespace
