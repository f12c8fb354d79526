// The kernels of one instruction set: compiled once for each, with VARIANT as the name of its table.

#include <cstddef>

#include "floats.h"
#include "layers/attention.h"
#include "layers/gelu.h"
#include "multiply.h"
#include "q6_k.h"

namespace {

// Numbers are those of ggml_type.
constexpr int FLOATS_32 = 0, Q8_0_BLOCKS = 8, Q8_1_BLOCKS = 9, Q8_K_BLOCKS = 15;

template <class Type>
constexpr products::Kernel kernel(int type, int activations, decltype(products::Kernel::quantize) quantize,
                                  decltype(products::Kernel::multiply_few) few = multiply_few<Type>) {
    constexpr int column_bytes = sizeof(typename Type::Column);
    return {type, activations, Type::WEIGHTS, column_bytes, quantize, multiply<Type>, few, Type::MOST_FEW};
}

template <class Float>
constexpr products::Kernel float_kernel(int type) {
    return kernel<FloatForm<Float>>(type, FLOATS_32, copy_floats, multiply_few_floats<Float>);
}

const products::Kernel KERNELS[] = {
    float_kernel<FloatF32>(0),
    float_kernel<FloatF16>(1),
    kernel<Q4_0>(2, Q8_0_BLOCKS, quantize_q8_0),
    kernel<Q4_1>(3, Q8_1_BLOCKS, quantize_q8_1),
    kernel<Q5_0>(6, Q8_0_BLOCKS, quantize_q8_0),
    kernel<Q5_1>(7, Q8_1_BLOCKS, quantize_q8_1),
    kernel<Q8_0>(8, Q8_0_BLOCKS, quantize_q8_0),
    kernel<Q2_K>(10, Q8_K_BLOCKS, quantize_super),
    kernel<Q3_K>(11, Q8_K_BLOCKS, quantize_super),
    kernel<Q4_K>(12, Q8_K_BLOCKS, quantize_super),
    kernel<Q5_K>(13, Q8_K_BLOCKS, quantize_super),
    kernel<Q6_K>(14, Q8_K_BLOCKS, quantize_super, multiply_few_q6_k),
    kernel<IQ4_NL>(20, Q8_0_BLOCKS, quantize_q8_0),
    kernel<IQ4_XS>(23, Q8_K_BLOCKS, quantize_super),
    float_kernel<FloatBF16>(30),
};

const products::Layers LAYERS = {attend, gelu};

}  // namespace

products::Kernels products::VARIANT() { return {KERNELS, sizeof KERNELS / sizeof *KERNELS, &LAYERS}; }
