#pragma once

/// The parts of LibTorch that this project is written with. <torch/torch.h>, all of it, costs every file that includes
/// it four seconds more to compile, precompiled or not: GCC instantiates a header's pending templates in each.

#include <torch/autograd.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/init.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>
#include <torch/utils.h>
