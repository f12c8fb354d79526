// The types of blocks of 32 with one scale, as types.h has those of super-blocks. Without an imatrix, all but IQ4_NL take
// their scale from the extremes; with one, which Q8_0 does not take, they search it, and all but IQ4_NL keep the levels of
// the search.

#pragma once

#include "types.h"

namespace {

struct IQ4_NL {
    using Block = BlockIQ4_NL;
    using Tile = ::Tile<32, 32, Span::BLOCK>;

    static void search(Tile& tile) { search_values_of(tile); }

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
    using Tile = ::Tile<32, 32, Span::NONE>;

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
    struct Tile : ::Tile<32, 32, Span::ROW> {
        alignas(64) float inverse[Tile::LANES];  // whose levels the search found best, if `weighted`
    };

    static void search(Tile& tile) {
        tile.search([&](const Floats* x, const Floats* imatrix, Floats*, int first) {
            if (!tile.weighted) return Grid{signed_absmax<32>(x) / -(float)HALF, {}};
            Floats weights[32];
            tile.weigh(x, imatrix, first, 1, weights);
            const Best best = search_symmetric<32, HALF>(x, weights);
            memcpy(tile.inverse + first, &best.inverse, sizeof best.inverse);
            return Grid{best.scale, {}};
        });
    }

    static void write(const Tile& tile, int number, Block& block) {
        uint8_t levels[32];
        level(tile, number, levels);
        block.d = to_half(tile.scale[number]);
        put_nibbles<32>(levels, 16, block.nibbles);
        put_fifth_bits(levels, block);
    }

    // Without an imatrix by ggml's way to round, which is another.
    static void level(const Tile& tile, int number, uint8_t* levels) {
        const float* x = tile.x + number * 32;
        const float inverse = tile.weighted ? tile.inverse[number] : inverse_of(tile.scale[number]);
        if (!tile.weighted)
            each_level<32>(
                x, [=](Floats x) { return within(cut(x * inverse + (HALF + 0.5f)), 0, 2 * HALF - 1); }, levels);
        else if (inverse == 0)
            memset(levels, 0, 32);
        else
            each_level<32>(x, [=](Floats x) { return nearest_int(inverse * x, -HALF, HALF - 1) + HALF; }, levels);
    }
};

using Q4_0 = Symmetric<BlockQ4_0, 8>;
using Q5_0 = Symmetric<BlockQ5_0, 16>;

// Levels 0 … TOP of one scale, above a minimum: Q4_1, Q5_1. A searched minimum may be below all weights; one that no half
// holds becomes the least half, where ggml's is infinite.
template <class Block_, int TOP>
struct Between {
    using Block = Block_;
    using Tile = TileAboveMinimum<32, 32, Span::ROW, GROUP>;

    static void search(Tile& tile) {
        if (tile.weighted) return tile.template search_weighted<TOP>(1);
        tile.search([](const Floats* x, const Floats*, Floats*, int) {
            const Extremes ends = extremes<32>(x);
            return Grid{(ends.top - ends.bottom) / (float)TOP, ends.bottom};
        });
    }

    static void write(const Tile& tile, int number, Block& block) {
        const float min = tile.min[number], inverse = inverse_of(tile.scale[number]);
        uint8_t levels[32];
        if (tile.weighted)
            tile.template found<TOP>(number, levels);
        else
            each_level<32>(
                tile.x + number * 32, [=](Floats x) { return within(cut((x - min) * inverse + 0.5f), 0, TOP); }, levels);
        block.d = to_half(tile.scale[number]);
        block.min = to_half(magnitude(min) < 65520 ? min : min < 0 ? -65504.0f : 65504.0f);
        put_nibbles<32>(levels, 16, block.nibbles);
        put_fifth_bits(levels, block);
    }
};

using Q4_1 = Between<BlockQ4_1, 15>;
using Q5_1 = Between<BlockQ5_1, 31>;

}  // namespace
