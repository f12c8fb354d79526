// The kernels of one instruction set: compiled once for each, with VARIANT as the name of its table.

#include <cstddef>

#include "few.h"
#include "floats.h"
#include "multiply.h"
#include "vector.h"

namespace {

// What multiplies few columns with weights of a type, and how many at most.
#if defined(__AVX512VNNI__)
#define FEW(type) multiply_vector<Vector##type>, 1
#else
#define FEW(type) multiply_few<type>, MOST_FEW
#endif

// Numbers are those of ggml_type.
constexpr int FLOATS_32 = 0, Q8_0_BLOCKS = 8, Q8_1_BLOCKS = 9, Q8_K_BLOCKS = 15;

template <class Type>
constexpr products::Kernel kernel(int type, int activations, decltype(products::Kernel::quantize) quantize,
                                  decltype(products::Kernel::multiply_few) few, int most_few) {
    constexpr int column_bytes = sizeof(typename Type::Column);
    return {type, activations, Type::WEIGHTS, column_bytes, quantize, multiply<Type>, few, most_few};
}

template <class Float>
constexpr products::Kernel float_kernel(int type) {
    using Type = FloatForm<Float>;
    return kernel<Type>(type, FLOATS_32, copy_floats, multiply_few_floats<Float>, 2);
}

const products::Kernel KERNELS[] = {
    float_kernel<FloatF32>(0),
    float_kernel<FloatF16>(1),
    kernel<Q4_0>(2, Q8_0_BLOCKS, quantize_q8_0, FEW(Q4_0)),
    kernel<Q4_1>(3, Q8_1_BLOCKS, quantize_q8_1, FEW(Q4_1)),
    kernel<Q5_0>(6, Q8_0_BLOCKS, quantize_q8_0, FEW(Q5_0)),
    kernel<Q5_1>(7, Q8_1_BLOCKS, quantize_q8_1, FEW(Q5_1)),
    kernel<Q8_0>(8, Q8_0_BLOCKS, quantize_q8_0, FEW(Q8_0)),
    kernel<Q2_K>(10, Q8_K_BLOCKS, quantize_super, multiply_few<Q2_K>, MOST_FEW),
    kernel<Q3_K>(11, Q8_K_BLOCKS, quantize_super, multiply_few<Q3_K>, MOST_FEW),
    kernel<Q4_K>(12, Q8_K_BLOCKS, quantize_super, FEW(Q4_K)),
    kernel<Q5_K>(13, Q8_K_BLOCKS, quantize_super, FEW(Q5_K)),
    kernel<Q6_K>(14, Q8_K_BLOCKS, quantize_super, FEW(Q6_K)),
    kernel<IQ4_NL>(20, Q8_0_BLOCKS, quantize_q8_0, FEW(IQ4_NL)),
    kernel<IQ4_XS>(23, Q8_K_BLOCKS, quantize_super, FEW(IQ4_XS)),
    float_kernel<FloatBF16>(30),
};

}  // namespace

products::Kernels products::VARIANT() { return {KERNELS, sizeof KERNELS / sizeof *KERNELS}; }
