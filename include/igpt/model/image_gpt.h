#pragma once

#include <string>
#include <vector>

#include "igpt/libtorch.h"
#include "igpt/model/image_gpt_options.h"

namespace igpt {

/// Keys and values of the positions read so far, one pair for each block: (B, H, S, d'), filled up to the position. d'
/// is the head's dimension d rounded up to a multiple of 8, the rest zeros: where rows are not aligned, MKL's rounding
/// depends on an image's place in the batch.
struct KeyValueCache {
  std::vector<torch::Tensor> keys, values;
  std::vector<torch::Tensor> convolved;  ///< (B, S, D) for each block: what its convolution has read
  torch::Tensor tokens;                  ///< (B, S + 1) int64 of image-gpt-2d: those read so far, elsewhere V
};

/// Layer norm (Ba et al. 2016) with gain and shift or, with `rms_norm`, gain alone (ops::ModelShape). eps 1e-5.
class NormImpl : public torch::nn::Cloneable<NormImpl> {
 public:
  NormImpl(int64_t embed_dim, bool rms_norm);
  void reset() override;

  torch::Tensor forward(const torch::Tensor& h);  ///< (.., D) -> (.., D)

  torch::Tensor weight;  ///< (D)
  torch::Tensor bias;    ///< (D); undefined with `rms_norm`

 private:
  int64_t embed_dim_;
  bool rms_norm_;
};
TORCH_MODULE(Norm);

/// A causal depth-wise convolution over the image (ops::ModelShape::conv_taps): to the features of a position are
/// added, each times a gain, those of the M nearest pixels before it that are inside the image. Gains begin at zero.
class ConvolutionImpl : public torch::nn::Cloneable<ConvolutionImpl> {
 public:
  /// A `side` x `side` image has `side`^2 positions.
  ConvolutionImpl(int64_t embed_dim, int64_t side, int64_t taps);
  void reset() override;

  torch::Tensor forward(const torch::Tensor& h);  ///< (B, S, D) -> (B, S, D), S up to that of an image

  /// One position: h (B, 1, D) -> (B, 1, D). `read` (B, S, D) has the features of the positions before, and gets h.
  torch::Tensor decode(const torch::Tensor& h, int64_t position, torch::Tensor read);

  torch::Tensor weight;  ///< (M, D)

 private:
  int64_t embed_dim_, side_, taps_;
};
TORCH_MODULE(Convolution);

/// Causal multi-head self-attention with the parameter names of PyTorch's nn.MultiheadAttention.
class CausalSelfAttentionImpl : public torch::nn::Cloneable<CausalSelfAttentionImpl> {
 public:
  CausalSelfAttentionImpl(int64_t embed_dim, int64_t num_heads);
  void reset() override;

  /// (B, S, D) -> (B, S, D)
  torch::Tensor forward(const torch::Tensor& h);

  /// One position: h (B, 1, D) -> (B, 1, D). Stores its key and value at `position` of `keys` and `values` (B, H, S,
  /// d').
  torch::Tensor decode(const torch::Tensor& h, int64_t position, torch::Tensor& keys, torch::Tensor& values);

  torch::Tensor in_proj_weight;  ///< (3D, D): q, k, v
  torch::Tensor in_proj_bias;    ///< (3D)
  torch::nn::Linear out_proj{nullptr};

 private:
  int64_t embed_dim_, num_heads_;
};
TORCH_MODULE(CausalSelfAttention);

/// Of the original project: h = ln_1(h); h = h + attn(h); h = h + mlp(ln_2(h)), the residual branch continues from the
/// normalised h. With `pre_norm` it continues from the unnormalised one (GPT-2): h = h + attn(ln_1(h)). With
/// `conv_taps` the MLP reads conv(ln_2(h)). Of a shape it takes D, H, the side, and the properties that concern blocks.
class BlockImpl : public torch::nn::Cloneable<BlockImpl> {
 public:
  explicit BlockImpl(const ops::ModelShape& shape);
  void reset() override;

  torch::Tensor forward(const torch::Tensor& h);  ///< (B, S, D) -> (B, S, D)
  /// One position: h (B, 1, D) -> (B, 1, D). `layer`: which entries of the cache are this block's.
  torch::Tensor decode(const torch::Tensor& h, int64_t position, size_t layer, KeyValueCache& cache);

  Norm ln_1{nullptr}, ln_2{nullptr};
  Convolution conv{nullptr};  ///< null without conv_taps
  CausalSelfAttention attn{nullptr};
  torch::nn::Sequential mlp{nullptr};

 private:
  ops::ModelShape shape_;
};
TORCH_MODULE(Block);

/// Class logits from the mean of the last block's output over the positions (Chen et al. 2020, section 2.3).
class ClassifierHeadImpl : public torch::nn::Cloneable<ClassifierHeadImpl> {
 public:
  ClassifierHeadImpl(int64_t embed_dim, int64_t num_classes, bool with_bias = true);
  void reset() override;

  torch::Tensor forward(const torch::Tensor& h);  ///< (B, S, D) -> (B, C)

  torch::Tensor weight;  ///< (C, D)
  torch::Tensor bias;    ///< (C), if there is one

 private:
  int64_t embed_dim_, num_classes_;
  bool with_bias_;
};
TORCH_MODULE(ClassifierHead);

/// Image GPT (Chen et al. 2020, Generative Pretraining from Pixels): an image is the sequence of its S palette indices
/// in raster order, and position s predicts x[s] from x[0..s-1].
///
/// `image-gpt` is the original project's: token x[s-1] and position s are embedded. Parameter names equal those of its
/// state dict without the prefix `gpt.`.
///
/// `image-gpt-2d` knows that the sequence is an image. Position s is embedded as the sum of its row's embedding, its
/// column's, and those of the K nearest pixels before it (ops::neighbourhood), each of which has a table of its own
/// with V + 1 entries, the last for what is outside the image: a causal convolution over one-hot pixels, as in the
/// first layer of a PixelCNN (van den Oord et al. 2016). Blocks are pre-norm, and ln_f is applied.
///
/// With ImageGPTOptions::table_rank its tables share what a token is, each a projection of it; with
/// ImageGPTOptions::conv_taps its MLPs read convolved features (Convolution): a position also sees what the block has
/// made of the pixels around it.
///
/// `igpt` is the paper's, as OpenAI's code computes it: pre-norm with norms that neither subtract the mean nor shift, a
/// final norm, quick GELU, no bias of the classifier, and initial values of its own.
///
/// With ImageGPTOptions::conditional each class has a start token: of image-gpt and igpt in the place of sos, of
/// image-gpt-2d in the place of the first neighbour of the first position, the pixel on its left.
///
/// Initial values come from torch's default generator.
class ImageGPTImpl : public torch::nn::Cloneable<ImageGPTImpl> {
 public:
  /// Throws igpt::UsageError where check(options) does.
  explicit ImageGPTImpl(ImageGPTOptions options = {});
  void reset() override;

  /// x (B, S) tokens of any integer dtype in [0, V) -> logits (B, S, V). A model with a start token for each class
  /// needs the images' `labels` (B) int64 in [0, C), here and in features(); others do not read them.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& labels = {});

  /// x (B, S) -> output of the last block (B, S, D).
  torch::Tensor features(const torch::Tensor& x, const torch::Tensor& labels = {});

  /// x (B, S) -> what linear probes read (Chen et al. 2020, section 2.4): means over the positions of each block's ln_1
  /// and, last, of features(x): (B, L + 1, D).
  torch::Tensor layer_features(const torch::Tensor& x);

  /// x (B, S) -> class logits (B, C), from features(x) or as ImageGPTOptions::shifted_classifier says.
  torch::Tensor classify(const torch::Tensor& x);

  /// An empty cache for `batch` images on the model's device.
  KeyValueCache make_cache(int64_t batch) const;

  /// Bytes of such a cache for one image.
  int64_t cache_bytes() const;

  /// One position of B images: logits (B, V) of position `position`. `previous` (B) int64 holds the tokens at position
  /// - 1; at position 0 the images' classes, which only a model with a start token for each class reads. Positions are
  /// decoded in order, each once.
  torch::Tensor decode(const torch::Tensor& previous, int64_t position, KeyValueCache& cache);

  /// Whether backward keeps each block's input only and computes the block again (recomputed); off at first.
  void set_activation_checkpointing(bool on) { activation_checkpointing_ = on; }

  /// All parameters as one flat buffer (P), as ops::ParameterTable describes it, so that an update, a norm or a
  /// reduction over all of them is a single operation. The first call after construction or to() moves the parameters
  /// into the buffer, of which they are views from then on.
  const torch::Tensor& weights();

  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Device device, bool non_blocking = false) override;

  const ImageGPTOptions& options() const { return options_; }
  const ops::ModelShape& shape() const { return shape_; }
  const torch::Tensor& palette() const { return palette_; }  ///< (V, C) uint8 on the CPU: the colours of the tokens

  c10::Device device() const { return head->weight.device(); }
  /// The parameters that the input is made of and whose initial values --embedding_std scales.
  std::vector<torch::Tensor> embeddings() const;
  torch::Tensor neighbour_tables() const;  ///< (K (V + 1), D), of models with neighbours

  torch::Tensor sos;                    ///< stands before the first token: (D), or (C, D) where each class has one
  torch::Tensor neighbour_projections;  ///< (K, R, D), with table_rank
  /// (V, D), of image-gpt-2d (K (V + 1), D), with table_rank (V + 1, R)
  torch::nn::Embedding token_embeddings{nullptr};
  torch::nn::Embedding position_embeddings{nullptr};                         ///< (S, D), of image-gpt
  torch::nn::Embedding row_embeddings{nullptr}, column_embeddings{nullptr};  ///< (side, D), of image-gpt-2d
  torch::nn::ModuleList layers{nullptr};
  Norm ln_f{nullptr};  ///< always in the state dict; applied as ImageGPTOptions::final_norm says
  torch::nn::Linear head{nullptr};
  ClassifierHead clf_head{nullptr};

 private:
  torch::Tensor embed(const torch::Tensor& x, const torch::Tensor& labels);
  torch::Tensor start_embeddings(const torch::Tensor& labels, int64_t batch);
  torch::Tensor features_of(torch::Tensor h);  // from what the first block reads on
  torch::Tensor embed_neighbours(const torch::Tensor& tokens, const torch::Tensor& neighbours,
                                 const torch::Tensor& start_labels);
  void set_paper_initial_values();

  ImageGPTOptions options_;
  ops::ModelShape shape_;
  torch::Tensor weights_;  // undefined: the parameters do not lie in a flat buffer
  bool activation_checkpointing_ = false;
  torch::Tensor palette_;  // not registered: the state dict has the original's names only
};
TORCH_MODULE(ImageGPT);

/// Mean cross-entropy in nats per pixel of logits (B, S, V) against the tokens x (B, S).
torch::Tensor generative_loss(const torch::Tensor& logits, const torch::Tensor& x);

/// Cross-entropy of each pixel: (B, S) nats.
torch::Tensor nats_per_pixel(const torch::Tensor& logits, const torch::Tensor& x);

/// Sum over the positions of each image's cross-entropy: (B) nats per image.
torch::Tensor nats_per_image(const torch::Tensor& logits, const torch::Tensor& x);

}  // namespace igpt
