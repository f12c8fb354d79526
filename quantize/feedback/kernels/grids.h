// What the blocks of each type can hold: scales and minima of sub-blocks, and the grid that a weight is rounded to.

#pragma once

#include "quantize/lanes/blocks.h"
#include "quantize/lanes/search.h"

namespace {

// weight ≈ scale × value - min; values are the whole numbers low … high, or those of IQ4_NL.
struct Lattice {
    bool is_whole;
    int low, high;
};

// Scales and minima of the sub-blocks of SUB weights, as ggml dequantizes them.
struct Scales {
    float scale[16], min[16];
};

inline int six_bits(const uint8_t* bytes, int i, bool is_min) {
    const int from = i + (is_min ? 4 : 0);
    if (i < 4) return bytes[from] & 63;
    const int low = is_min ? bytes[i + 4] >> 4 : bytes[i + 4] & 15;
    return low | bytes[is_min ? i : i - 4] >> 6 << 4;
}

template <class Block>
inline void scales_of_32(const Block& block, Scales& s) {
    const float d = from_half(block.d), dmin = from_half(block.dmin);
    for (int i = 0; i < 8; ++i) {
        s.scale[i] = d * (float)six_bits(block.scales, i, false);
        s.min[i] = dmin * (float)six_bits(block.scales, i, true);
    }
}

struct RoundQ2_K {
    using Block = BlockQ2_K;
    static constexpr int SUB = 16;
    static constexpr Lattice LATTICE = {true, 0, 3};
    static void scales(const Block& block, Scales& s) {
        const float d = from_half(block.d), dmin = from_half(block.dmin);
        for (int i = 0; i < 16; ++i) {
            s.scale[i] = d * (float)(block.scales[i] & 15);
            s.min[i] = dmin * (float)(block.scales[i] >> 4);
        }
    }
    static void put_levels(const uint8_t* levels, Block& block) { put_pairs(levels, 0, block.pairs); }
};

struct RoundQ3_K {
    using Block = BlockQ3_K;
    static constexpr int SUB = 16;
    static constexpr Lattice LATTICE = {true, -4, 3};
    static void scales(const Block& block, Scales& s) {
        const float d = from_half(block.d);
        for (int i = 0; i < 16; ++i) {
            const int low = i < 8 ? block.scales[i] & 15 : block.scales[i - 8] >> 4;
            const int high = block.scales[8 + i % 4] >> 2 * (i / 4) & 3;
            s.scale[i] = d * (float)((low | high << 4) - 32);
        }
    }
    static void put_levels(const uint8_t* levels, Block& block) {
        put_pairs(levels, 0, block.pairs);
        put_bits(levels, 2, block.third_bits);
    }
};

struct RoundQ4_K {
    using Block = BlockQ4_K;
    static constexpr int SUB = 32;
    static constexpr Lattice LATTICE = {true, 0, 15};
    static void scales(const Block& block, Scales& s) { scales_of_32(block, s); }
    static void put_levels(const uint8_t* levels, Block& block) { put_nibbles<SUPER>(levels, 32, block.nibbles); }
};

struct RoundQ5_K {
    using Block = BlockQ5_K;
    static constexpr int SUB = 32;
    static constexpr Lattice LATTICE = {true, 0, 31};
    static void scales(const Block& block, Scales& s) { scales_of_32(block, s); }
    static void put_levels(const uint8_t* levels, Block& block) {
        put_nibbles<SUPER>(levels, 32, block.nibbles);
        put_bits(levels, 4, block.fifth_bits);
    }
};

struct RoundQ6_K {
    using Block = BlockQ6_K;
    static constexpr int SUB = 16;
    static constexpr Lattice LATTICE = {true, -32, 31};
    static void scales(const Block& block, Scales& s) {
        const float d = from_half(block.d);
        for (int i = 0; i < 16; ++i) s.scale[i] = d * (float)block.scales[i];
    }
    static void put_levels(const uint8_t* levels, Block& block) {
        put_nibbles<SUPER>(levels, 64, block.nibbles);
        put_pairs(levels, 4, block.pairs);
    }
};

struct RoundIQ4_XS {
    using Block = BlockIQ4_XS;
    static constexpr int SUB = 32;
    static constexpr Lattice LATTICE = {false, 0, 0};
    static void scales(const Block& block, Scales& s) {
        const float d = from_half(block.d);
        for (int i = 0; i < 8; ++i) {
            const int low = block.scales_low[i / 2] >> 4 * (i % 2) & 15, high = block.scales_high >> 2 * i & 3;
            s.scale[i] = d * (float)((low | high << 4) - 32);
        }
    }
    static void put_levels(const uint8_t* levels, Block& block) { put_nibbles<SUPER>(levels, 16, block.nibbles); }
};

// The value nearest to target on the grid of a sub-block; that of 0 where the scale is 0.
inline Floats nearest_on(const Lattice& lattice, Floats target, Floats scale, Floats min) {
    const Floats t = choose(scale == 0, Floats{}, (target + min) / scale);
    if (!lattice.is_whole) return nearest_value(t);
    const Floats low = broadcast((float)lattice.low), high = broadcast((float)lattice.high);
    return nearest(choose(t < low, low, choose(t > high, high, t)), lattice.low, lattice.high);
}

// The levels, as blocks hold them, of values.
inline void levels_of(const Lattice& lattice, const float* values, uint8_t* levels) {
    for (int i = 0; i < WIDTH; ++i) levels[i] = (uint8_t)((int)values[i] - lattice.low);
    if (lattice.is_whole) return;
    const Ints index = nearest_index(load(values));
    for (int i = 0; i < WIDTH; ++i) levels[i] = (uint8_t)index[i];
}

}  // namespace
