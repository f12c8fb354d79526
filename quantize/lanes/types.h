// Quantize a tile of super-blocks of each type: `search` finds the scales of their sub-blocks, one sub-block per lane;
// then, block by block, `write` rounds the scales to their stored precision and the weights to levels, and packs both.

#pragma once

#include "above_minimum.h"
#include "blocks.h"
#include "tile.h"

namespace {

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

// Scales of WIDTH blocks with N sub-blocks, rounded: levels of a half.
template <int N>
struct RoundedScales {
    uint16_t d[WIDTH];
    uint8_t levels[WIDTH * N];

    // By a search, in which each scale matters as much as the weights of its sub-block, with a block in each lane.
    template <class Search>
    void search(const float* scales, float sign, const float* sum_w, Search search) {
        Floats x[N], weights[N], found[N];
        for (int lane = 0; lane < WIDTH; ++lane)
            for (int i = 0; i < N; ++i) {
                x[i][lane] = sign * scales[lane * N + i];
                weights[i][lane] = sum_w[lane * N + i];
            }
        const Floats scale = search(x, weights, found);
        for (int lane = 0; lane < WIDTH; ++lane) {
            d[lane] = to_half(scale[lane]);
            for (int i = 0; i < N; ++i) levels[lane * N + i] = (uint8_t)found[i][lane];
        }
    }
};

// A tile of sub-blocks with a scale and a minimum: what they are, and which weights get which level.
template <int BLOCK_WEIGHTS, int SUB, Span SPAN, int VECTORS>
struct TileAboveMinimum : Tile<BLOCK_WEIGHTS, SUB, SPAN, VECTORS> {
    using Base = Tile<BLOCK_WEIGHTS, SUB, SPAN, VECTORS>;
    static_assert(Base::LANES % (GROUP * WIDTH) == 0, "whole groups of vectors");
    alignas(64) float inverse[Base::LANES], origin[Base::LANES];  // levels are nearest to inverse × (x - origin)

    // weigh(x lanes, first lane, weights) gives what the squares (or absolutes) of errors are multiplied with.
    template <int TOP, Error ERROR, class Weigh>
    void search_groups(float first_try, float step, int n_steps, Weigh weigh) {
        for (int first = 0; first < this->n_blocks * Base::N_SUBS; first += GROUP * WIDTH) {
            Floats x[GROUP][SUB], weights[GROUP][SUB];
            Searched<SUB> group[GROUP];
            for (int k = 0; k < GROUP; ++k) {
                const int lane = first + k * WIDTH;
                to_lanes<SUB>(this->x + lane * SUB, x[k]);
                weigh(x[k], lane, weights[k]);
                group[k].x = x[k];
                group[k].weights = weights[k];
                group[k].levels = this->levels[lane / WIDTH];
            }
            search_above_minimum<SUB, TOP, ERROR>(group, first_try, step, n_steps);
            for (int k = 0; k < GROUP; ++k) {
                const int lane = first + k * WIDTH;
                memcpy(this->scale + lane, &group[k].kept.scale, sizeof(Floats));
                memcpy(this->min + lane, &group[k].kept.min, sizeof(Floats));
                memcpy(inverse + lane, &group[k].kept_inverse, sizeof(Floats));
                memcpy(origin + lane, &group[k].kept_origin, sizeof(Floats));
            }
        }
    }

    // With an imatrix: make_qkx3_quants, as all types call it.
    template <int TOP>
    void search_weighted(float mean_factor) {
        search_groups<TOP, Error::SQUARED>(-0.9f, 0.05f, 36, [&](const Floats* x, int first, Floats* weights) {
            Floats imatrix[SUB];
            to_lanes<SUB>(this->imatrix + first * SUB, imatrix);
            this->weigh(x, imatrix, first, mean_factor, weights);
        });
    }

    // The levels of the search, of the sub-block in a lane.
    template <int TOP>
    void found(int lane, uint8_t* out) const {
        const float inverse = this->inverse[lane], origin = this->origin[lane];
        each_level<SUB>(
            this->x + lane * SUB, [=](Floats x) { return nearest_int(inverse * (x - origin), 0, TOP); }, out);
    }
};

// Types whose sub-blocks have a scale and a minimum; `Of` has their differences.
template <class Of>
struct AboveMinimum {
    using Block = typename Of::Block;
    static constexpr int SUB = Of::SUB, N_SUBS = SUPER / SUB;
    struct Tile : TileAboveMinimum<SUPER, SUB, Span::BLOCK, N_SUBS> {
        RoundedScales<N_SUBS> scales, mins;  // if `weighted`
    };

    static void search(Tile& tile) {
        if (!tile.weighted)
            return tile.template search_groups<Of::TOP, Of::ERROR>(
                Of::FIRST, 0.1f, Of::N_STEPS, [](const Floats* x, int, Floats* weights) { Of::weigh(x, weights); });
        tile.template search_weighted<Of::TOP>(Of::MEAN_FACTOR);
        tile.scales.search(tile.scale, 1, tile.sum_w, search_above_zero<N_SUBS, Of::SCALE_TOP>);
        tile.mins.search(tile.min, -1, tile.sum_w, search_above_zero<N_SUBS, Of::SCALE_TOP>);
    }

    // Levels nearest to (x + depth) / d, or, where d is 0, those of the search.
    static void round(const Tile& tile, int lane, float d, float depth, uint8_t* out) {
        if (d == 0)
            tile.template found<Of::TOP>(lane, out);
        else
            each_level<SUB>(
                tile.x + lane * SUB, [=](Floats x) { return nearest_int((x + depth) / d, 0, Of::TOP); }, out);
    }

    static void write(const Tile& tile, int number, Block& block) {
        const int first = number * N_SUBS;
        uint8_t scales[N_SUBS], mins[N_SUBS], levels[SUPER];
        if (tile.weighted) {
            block.d = tile.scales.d[number];
            block.dmin = tile.mins.d[number];
            memcpy(scales, tile.scales.levels + first, N_SUBS);
            memcpy(mins, tile.mins.levels + first, N_SUBS);
        } else {
            float depths[N_SUBS];
            for (int i = 0; i < N_SUBS; ++i) depths[i] = -tile.min[first + i];
            block.d = round_scales<N_SUBS, Of::SCALE_TOP>(tile.scale + first, scales);
            block.dmin = round_scales<N_SUBS, Of::SCALE_TOP>(depths, mins);
        }
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
    using Tile = ::Tile<SUPER, 16, Span::NONE>;

    static void search(Tile& tile) {
        tile.search([&](const Floats* x, const Floats* imatrix, Floats* levels, int) {
            Floats squares[16];
            for (int i = 0; i < 16; ++i) squares[i] = x[i] * x[i];
            const Best best = search_symmetric<16, 32>(x, tile.weighted ? imatrix : squares);
            symmetric_levels<16, 32>(x, best.inverse, levels);
            return Grid{best.scale, {}};
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
            tile.round(first + i, from_half(block.d) * block.scales[i], -32, 31, levels + i * 16);
        }
        put_nibbles<SUPER>(levels, 64, block.nibbles);
        put_pairs(levels, 4, block.pairs);
    }
};

struct Q3_K {
    using Block = BlockQ3_K;
    struct Tile : ::Tile<SUPER, 16, Span::BLOCK, 16> {
        RoundedScales<16> scales;  // if `weighted`
    };

    static void search(Tile& tile) {
        tile.search([&](const Floats* x, const Floats* imatrix, Floats* levels, int first) {
            Floats weights[16];
            if (tile.weighted) {
                tile.weigh(x, imatrix, first, 2, weights);
                const Best best = search_symmetric<16, 4>(x, weights);
                symmetric_levels<16, 4>(x, best.inverse, levels);
                return Grid{best.scale, {}};
            }
            for (int i = 0; i < 16; ++i) weights[i] = x[i] * x[i];
            return descend_symmetric<16, 4>(x, weights, levels);
        });
        if (!tile.weighted) return;
        tile.scales.search(tile.scale, 1, tile.sum_w, [](const Floats* x, const Floats* weights, Floats* levels) {
            const Best best = search_symmetric<16, 32>(x, weights);
            symmetric_levels<16, 32>(x, best.inverse, levels);
            return best.scale;
        });
    }

    static uint16_t round_scales(const float* scales, uint8_t* rounded) {
        const float absmax = signed_absmax(scales, 16), inverse = -32 / absmax;
        for (int i = 0; i < 16; ++i)
            rounded[i] = absmax == 0 ? 0 : (uint8_t)(within((int8_t)nearest_int(inverse * scales[i]), -32, 31) + 32);
        return absmax == 0 ? 0 : to_half(1 / inverse);
    }

    static void write(const Tile& tile, int number, Block& block) {
        const int first = number * 16;
        uint8_t scales[16], levels[SUPER];
        if (tile.weighted) {
            block.d = tile.scales.d[number];
            memcpy(scales, tile.scales.levels + first, 16);
        } else
            block.d = round_scales(tile.scale + first, scales);
        for (int i = 0; i < 16; ++i)
            tile.round(first + i, from_half(block.d) * (scales[i] - 32), -4, 3, levels + i * 16);
        put_scales(scales, block.scales);
        put_pairs(levels, 0, block.pairs);
        put_bits(levels, 2, block.third_bits);
    }
};

// The search of IQ4_XS and IQ4_NL.
template <class Tile>
inline void search_values_of(Tile& tile) {
    tile.search([&](const Floats* x, const Floats* imatrix, Floats*, int first) {
        Floats weights[32];
        if (tile.weighted)
            tile.weigh(x, imatrix, first, 2, weights);
        else
            for (int i = 0; i < 32; ++i) weights[i] = x[i] * x[i];
        return search_values<32>(x, weights);
    });
}

struct IQ4_XS {
    using Block = BlockIQ4_XS;
    using Tile = ::Tile<SUPER, 32, Span::BLOCK>;

    static void search(Tile& tile) { search_values_of(tile); }

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

}  // namespace
