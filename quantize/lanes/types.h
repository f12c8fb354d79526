// Quantize a tile of blocks of each type: `search` finds the scales of their sub-blocks, one sub-block per lane; then, block
// by block, `write` rounds the scales to their stored precision and the weights to levels, and packs both.

#pragma once

#include "above_minimum.h"
#include "blocks.h"

namespace {

// Blocks of BLOCK_WEIGHTS in sub-blocks of SUB, as many as fill the lanes of so many vectors, and what the search found.
template <int BLOCK_WEIGHTS, int SUB, int VECTORS = 1>
struct Tile {
    static constexpr int N_SUBS = BLOCK_WEIGHTS / SUB;
    static constexpr int LANES = N_SUBS > VECTORS * WIDTH ? N_SUBS : VECTORS * WIDTH;
    static constexpr int N_BLOCKS = LANES / N_SUBS;

    alignas(64) float x[LANES * SUB];
    alignas(64) float imatrix[LANES * SUB];  // the importance of each weight's column, if `weighted`
    bool weighted;
    alignas(64) float scale[LANES], min[LANES], sum_w[LANES];
    Floats levels[LANES / WIDTH][SUB];

    // search_lanes(x, imatrix, levels, first lane) → Grid, of every vector of sub-blocks.
    template <class SearchLanes>
    void search(SearchLanes search_lanes) {
        for (int first = 0; first < LANES; first += WIDTH) {
            Floats x_lanes[SUB], imatrix_lanes[SUB];
            to_lanes<SUB>(x + first * SUB, x_lanes);
            if (weighted) to_lanes<SUB>(imatrix + first * SUB, imatrix_lanes);
            const Grid grid = search_lanes(x_lanes, imatrix_lanes, levels[first / WIDTH], first);
            memcpy(scale + first, &grid.scale, sizeof grid.scale);
            memcpy(min + first, &grid.min, sizeof grid.min);
        }
    }

    // Column weight × √(factor × mean square of the block + x²), and the sub-blocks' sums of these.
    void weigh(const Floats* x_lanes, const Floats* imatrix_lanes, int first, float factor, Floats* weights) {
        Floats mean = {}, sum = {};
        for (int lane = 0; lane < WIDTH; ++lane)
            mean[lane] = lane % N_SUBS == 0 ? factor * sum_of_squares((first + lane) / N_SUBS) / BLOCK_WEIGHTS : mean[lane - 1];
        for (int i = 0; i < SUB; ++i) {
            weights[i] = imatrix_lanes[i] * square_root(mean + x_lanes[i] * x_lanes[i]);
            sum += weights[i];
        }
        memcpy(sum_w + first, &sum, sizeof sum);
    }

    float sum_of_squares(int block) const {
        float sum = 0;
        for (int i = 0; i < BLOCK_WEIGHTS; ++i) sum += x[block * BLOCK_WEIGHTS + i] * x[block * BLOCK_WEIGHTS + i];
        return sum;
    }

    // Levels of the sub-block in a lane, counted from `low`: those nearest to (x + depth) / d, or, where d is 0, those that
    // the search gave.
    void round(int lane, float d, float depth, int low, int high, uint8_t* out) const {
        if (d == 0)
            for (int i = 0; i < SUB; ++i) out[i] = (uint8_t)levels[lane / WIDTH][i][lane % WIDTH];
        else
            each_level<SUB>(
                x + lane * SUB, [=](Floats x) { return nearest_int((x + depth) / d, low, high) - low; }, out);
    }
};

// The scale of largest absolute value (absmax), with its sign; the first of equals. (Clang 19 miscompiles this without
// `greatest`.)
inline float signed_absmax(const float* x, int n) {
    float greatest = 0, absmax = 0;
    for (int i = 0; i < n; ++i) {
        if (magnitude(x[i]) <= greatest) continue;
        greatest = magnitude(x[i]);
        absmax = x[i];
    }
    return absmax;
}

// Scales that are not negative → levels 0 … TOP of the half that is returned.
template <int N, int TOP>
inline uint16_t round_scales(const float* scales, uint8_t* rounded) {
    float top = 0;
    for (int i = 0; i < N; ++i) top = scales[i] > top ? scales[i] : top;
    const float inverse = top > 0 ? TOP / top : 0;
    for (int i = 0; i < N; ++i) rounded[i] = (uint8_t)within((uint8_t)nearest_int(inverse * scales[i]), 0, TOP);
    return to_half(top / TOP);
}

// The same by a search, in which each scale matters as much as the weights of its sub-block; all lanes do the same.
template <int N, class Search>
inline uint16_t search_scales(const float* scales, const float* sum_w, uint8_t* rounded, Search search) {
    Floats x[N], weights[N], levels[N];
    for (int i = 0; i < N; ++i) {
        x[i] = broadcast(scales[i]);
        weights[i] = broadcast(sum_w[i]);
    }
    const Floats d = search(x, weights, levels);
    for (int i = 0; i < N; ++i) rounded[i] = (uint8_t)levels[i][0];
    return to_half(d[0]);
}

// Types whose sub-blocks have a scale and a minimum; `Of` has their differences.
template <class Of>
struct AboveMinimum {
    using Block = typename Of::Block;
    static constexpr int SUB = Of::SUB, N_SUBS = SUPER / SUB;
    struct Tile : ::Tile<SUPER, SUB, PAIR> {
        alignas(64) float inverse[Tile::LANES], origin[Tile::LANES];  // levels are nearest to inverse × (x - origin)
    };

    static void search(Tile& tile) {
        for (int first = 0; first < Tile::LANES; first += PAIR * WIDTH) {
            Floats x[PAIR][SUB], weights[PAIR][SUB];
            Searched<SUB> pair[PAIR];
            for (int k = 0; k < PAIR; ++k) {
                const int lane = first + k * WIDTH;
                to_lanes<SUB>(tile.x + lane * SUB, x[k]);
                weigh(tile, lane, x[k], weights[k]);
                pair[k].x = x[k];
                pair[k].weights = weights[k];
                pair[k].levels = tile.levels[lane / WIDTH];
            }
            if (tile.weighted)
                search_above_minimum<SUB, Of::TOP, Error::SQUARED>(pair, -0.9f, 0.05f, 36);
            else
                search_above_minimum<SUB, Of::TOP, Of::ERROR>(pair, Of::FIRST, 0.1f, Of::N_STEPS);
            for (int k = 0; k < PAIR; ++k) {
                const int lane = first + k * WIDTH;
                memcpy(tile.scale + lane, &pair[k].kept.scale, sizeof(Floats));
                memcpy(tile.min + lane, &pair[k].kept.min, sizeof(Floats));
                memcpy(tile.inverse + lane, &pair[k].kept_inverse, sizeof(Floats));
                memcpy(tile.origin + lane, &pair[k].kept_origin, sizeof(Floats));
            }
        }
    }

    static void weigh(Tile& tile, int first, const Floats* x, Floats* weights) {
        if (!tile.weighted) return Of::weigh(x, weights);
        Floats imatrix[SUB];
        to_lanes<SUB>(tile.imatrix + first * SUB, imatrix);
        tile.weigh(x, imatrix, first, Of::MEAN_FACTOR, weights);
    }

    // Levels nearest to (x + depth) / d, or, where d is 0, those of the search.
    static void round(const Tile& tile, int lane, float d, float depth, uint8_t* out) {
        const float *x = tile.x + lane * SUB, inverse = tile.inverse[lane], origin = tile.origin[lane];
        if (d == 0)
            each_level<SUB>(x, [=](Floats x) { return nearest_int(inverse * (x - origin), 0, Of::TOP); }, out);
        else
            each_level<SUB>(x, [=](Floats x) { return nearest_int((x + depth) / d, 0, Of::TOP); }, out);
    }

    static uint16_t round_scales(const Tile& tile, const float* scales, int first, uint8_t* rounded) {
        if (!tile.weighted) return ::round_scales<N_SUBS, Of::SCALE_TOP>(scales, rounded);
        return search_scales<N_SUBS>(scales, tile.sum_w + first, rounded, search_above_zero<N_SUBS, Of::SCALE_TOP>);
    }

    static void write(const Tile& tile, int number, Block& block) {
        const int first = number * N_SUBS;
        float depths[N_SUBS];
        for (int i = 0; i < N_SUBS; ++i) depths[i] = -tile.min[first + i];
        uint8_t scales[N_SUBS], mins[N_SUBS], levels[SUPER];
        block.d = round_scales(tile, tile.scale + first, first, scales);
        block.dmin = round_scales(tile, depths, first, mins);
        const float d = from_half(block.d), dmin = from_half(block.dmin);
        for (int i = 0; i < N_SUBS; ++i)
            round(tile, first + i, d * scales[i], dmin * mins[i], levels + i * SUB);
        put(scales, mins, levels, block);
    }
};

// Common to Q4_K and Q5_K.
struct Of32 {
    static constexpr int SUB = 32, SCALE_TOP = 63;
    static constexpr float MEAN_FACTOR = 2;
    static constexpr Error ERROR = Error::SQUARED;
    static void weigh(const Floats* x, Floats* weights) {
        Floats squares = {};
        for (int i = 0; i < SUB; ++i) squares += x[i] * x[i];
        const Floats mean = square_root(squares / (float)SUB);
        for (int i = 0; i < SUB; ++i) weights[i] = mean + magnitude(x[i]);
    }
};

struct Q4K : Of32 {
    using Block = BlockQ4_K;
    static constexpr int TOP = 15, N_STEPS = 20;
    static constexpr float FIRST = -1;
};

struct Q5K : Of32 {
    using Block = BlockQ5_K;
    static constexpr int TOP = 31, N_STEPS = 15;
    static constexpr float FIRST = -0.5f;
};

struct Q2K {
    using Block = BlockQ2_K;
    static constexpr int SUB = 16, TOP = 3, SCALE_TOP = 15, N_STEPS = 15;
    static constexpr float FIRST = -0.5f, MEAN_FACTOR = 1;
    static constexpr Error ERROR = Error::ABSOLUTE;
    static void weigh(const Floats* x, Floats* weights) {
        for (int i = 0; i < SUB; ++i) weights[i] = magnitude(x[i]);
    }
};

using Q4_K = AboveMinimum<Q4K>;
using Q5_K = AboveMinimum<Q5K>;
using Q2_K = AboveMinimum<Q2K>;

struct Q6_K {
    using Block = BlockQ6_K;
    using Tile = ::Tile<SUPER, 16>;

    static void search(Tile& tile) {
        tile.search([&](const Floats* x, const Floats* imatrix, Floats* levels, int) {
            Floats squares[16];
            for (int i = 0; i < 16; ++i) squares[i] = x[i] * x[i];
            return search_symmetric<16, 32>(x, tile.weighted ? imatrix : squares, levels);
        });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const int first = number * 16;
        const float absmax = signed_absmax(tile.scale + first, 16);
        if (magnitude(absmax) < NOTHING) {
            memset(&block, 0, sizeof block);
            return;
        }
        const float inverse = -128 / absmax;
        block.d = to_half(1 / inverse);
        uint8_t levels[SUPER];
        for (int i = 0; i < 16; ++i) {
            const int scale = nearest_int(inverse * tile.scale[first + i]);
            block.scales[i] = (int8_t)(scale > 127 ? 127 : scale);
            tile.round(first + i, from_half(block.d) * block.scales[i], 0, -32, 31, levels + i * 16);
        }
        put_nibbles<SUPER>(levels, 64, block.nibbles);
        put_pairs(levels, 4, block.pairs);
    }
};

struct Q3_K {
    using Block = BlockQ3_K;
    using Tile = ::Tile<SUPER, 16>;

    static void search(Tile& tile) {
        tile.search([&](const Floats* x, const Floats* imatrix, Floats* levels, int first) {
            Floats weights[16];
            if (tile.weighted) {
                tile.weigh(x, imatrix, first, 2, weights);
                return search_symmetric<16, 4>(x, weights, levels);
            }
            for (int i = 0; i < 16; ++i) weights[i] = x[i] * x[i];
            return descend_symmetric<16, 4>(x, weights, levels);
        });
    }

    static uint16_t round_scales(const Tile& tile, int first, uint8_t* rounded) {
        const float *scales = tile.scale + first, *sum_w = tile.sum_w + first;
        if (tile.weighted)
            return search_scales<16>(scales, sum_w, rounded, [](const Floats* x, const Floats* weights, Floats* levels) {
                return search_symmetric<16, 32>(x, weights, levels).scale;
            });
        const float absmax = signed_absmax(scales, 16), inverse = -32 / absmax;
        for (int i = 0; i < 16; ++i)
            rounded[i] = absmax == 0 ? 0 : (uint8_t)(within((int8_t)nearest_int(inverse * scales[i]), -32, 31) + 32);
        return absmax == 0 ? 0 : to_half(1 / inverse);
    }

    static void write(const Tile& tile, int number, Block& block) {
        const int first = number * 16;
        uint8_t scales[16], levels[SUPER];
        block.d = round_scales(tile, first, scales);
        for (int i = 0; i < 16; ++i)
            tile.round(first + i, from_half(block.d) * (scales[i] - 32), 0, -4, 3, levels + i * 16);
        put_scales(scales, block.scales);
        put_pairs(levels, 0, block.pairs);
        put_bits(levels, 2, block.third_bits);
    }
};

inline float inverse_of(float d) { return d != 0 ? 1 / d : 0; }

struct IQ4_XS {
    using Block = BlockIQ4_XS;
    using Tile = ::Tile<SUPER, 32>;

    static void search(Tile& tile) {
        tile.search([](const Floats* x, const Floats*, Floats*, int) { return search_values<32>(x); });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const float* scale = tile.scale + number * 8;
        const float d = -signed_absmax(scale, 8) / 32, inverse = inverse_of(d);
        uint8_t scales[8], levels[SUPER];
        block.d = to_half(d);
        block.scales_high = 0;
        for (int i = 0; i < 8; ++i) {
            const int level = within(nearest_int(inverse * scale[i]), -32, 31);
            const float sub_inverse = inverse_of(d * level);
            each_level<32>(
                tile.x + number * SUPER + i * 32, [=](Floats x) { return nearest_index(sub_inverse * x); },
                levels + i * 32);
            scales[i] = (uint8_t)(level + 32);
            block.scales_high = (uint16_t)(block.scales_high | scales[i] >> 4 << 2 * i);
        }
        put_nibbles<8>(scales, 1, block.scales_low);
        put_nibbles<SUPER>(levels, 16, block.nibbles);
    }
};

// Types of blocks of 32 with one scale.

struct IQ4_NL {
    using Block = BlockIQ4_NL;
    using Tile = ::Tile<32, 32>;

    static void search(Tile& tile) {
        tile.search([](const Floats* x, const Floats*, Floats*, int) { return search_values<32>(x); });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const float inverse = inverse_of(tile.scale[number]);
        uint8_t levels[32];
        each_level<32>(tile.x + number * 32, [=](Floats x) { return nearest_index(inverse * x); }, levels);
        block.d = to_half(tile.scale[number]);
        put_nibbles<32>(levels, 16, block.nibbles);
    }
};

struct Q8_0 {
    using Block = BlockQ8_0;
    using Tile = ::Tile<32, 32>;

    static void search(Tile& tile) {
        tile.search([](const Floats* x, const Floats*, Floats*, int) {
            return Grid{magnitude(signed_absmax<32>(x)) / 127, {}};
        });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const float inverse = inverse_of(tile.scale[number]);
        block.d = to_half(tile.scale[number]);
        each_level<32>(tile.x + number * 32, [=](Floats x) { return round_away(x * inverse); }, block.levels);
    }
};

inline void put_fifth_bits(const uint8_t*, BlockQ4_0&) {}
inline void put_fifth_bits(const uint8_t*, BlockQ4_1&) {}
inline void put_fifth_bits(const uint8_t* levels, BlockQ5_0& block) { put_fifth_bits(levels, block.fifth_bits); }
inline void put_fifth_bits(const uint8_t* levels, BlockQ5_1& block) { put_fifth_bits(levels, block.fifth_bits); }

// Levels -HALF … HALF - 1 of one scale: Q4_0, Q5_0.
template <class Block_, int HALF>
struct Symmetric {
    using Block = Block_;
    using Tile = ::Tile<32, 32>;

    static void search(Tile& tile) {
        tile.search([](const Floats* x, const Floats*, Floats*, int) {
            return Grid{signed_absmax<32>(x) / -(float)HALF, {}};
        });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const float inverse = inverse_of(tile.scale[number]);
        uint8_t levels[32];
        each_level<32>(
            tile.x + number * 32, [=](Floats x) { return within(cut(x * inverse + (HALF + 0.5f)), 0, 2 * HALF - 1); },
            levels);
        block.d = to_half(tile.scale[number]);
        put_nibbles<32>(levels, 16, block.nibbles);
        put_fifth_bits(levels, block);
    }
};

using Q4_0 = Symmetric<BlockQ4_0, 8>;
using Q5_0 = Symmetric<BlockQ5_0, 16>;

// Levels 0 … TOP of one scale, above a minimum: Q4_1, Q5_1.
template <class Block_, int TOP>
struct Between {
    using Block = Block_;
    using Tile = ::Tile<32, 32>;

    static void search(Tile& tile) {
        tile.search([](const Floats* x, const Floats*, Floats*, int) {
            const Extremes ends = extremes<32>(x);
            return Grid{(ends.top - ends.bottom) / (float)TOP, ends.bottom};
        });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const float min = tile.min[number], inverse = inverse_of(tile.scale[number]);
        uint8_t levels[32];
        each_level<32>(
            tile.x + number * 32, [=](Floats x) { return within(cut((x - min) * inverse + 0.5f), 0, TOP); }, levels);
        block.d = to_half(tile.scale[number]);
        block.min = to_half(min);
        put_nibbles<32>(levels, 16, block.nibbles);
        put_fifth_bits(levels, block);
    }
};

using Q4_1 = Between<BlockQ4_1, 15>;
using Q5_1 = Between<BlockQ5_1, 31>;

}  // namespace
