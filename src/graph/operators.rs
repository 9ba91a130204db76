//! Search for unsupported operators of a file by their names, before the graph runs: the serving
//! process searches when it lists the repository.
//!
//! Names suffice for the search, so it does not need burn.

use crate::error::{OnnxError, Result};
use crate::{Attribute, ModelFile, Node};
use std::collections::{BTreeSet, HashSet};

/// The supported operators by domain, each list in alphabetical order. The crate `onnx` implements
/// them in its own tables; a test there compares both.
#[rustfmt::skip]
pub const OPERATORS: &[(&str, &[&str])] = &[
    ("", &[
        "Abs", "Acos", "Acosh", "Add", "AffineGrid", "And", "ArgMax", "ArgMin", "Asin", "Asinh",
        "Atan", "Atanh", "Attention", "AveragePool", "BatchNormalization", "Bernoulli", "BitCast",
        "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "BlackmanWindow", "Cast",
        "CastLike", "CausalConvWithState", "Ceil", "Celu", "CenterCropPad", "Clip", "Col2Im",
        "Compress", "Concat", "ConcatFromSequence", "Constant", "ConstantOfShape", "Conv",
        "ConvInteger", "ConvTranspose", "Cos", "Cosh", "CumProd", "CumSum", "DFT", "DeformConv",
        "DepthToSpace", "DequantizeLinear", "Det", "Div", "Dropout", "DynamicQuantizeLinear",
        "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "EyeLike", "Flatten", "Floor", "GRU",
        "Gather", "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool",
        "GlobalMaxPool", "Greater", "GreaterOrEqual", "GridSample", "GroupNormalization",
        "HammingWindow", "HannWindow", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "If",
        "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LSTM", "LayerNormalization", "LeakyRelu",
        "Less", "LessOrEqual", "LinearAttention", "Log", "LogSoftmax", "Loop", "LpNormalization",
        "LpPool", "MatMul", "MatMulInteger", "Max", "MaxPool", "MaxRoiPool", "MaxUnpool", "Mean",
        "MeanVarianceNormalization", "MelWeightMatrix", "Min", "Mish", "Mod", "Mul", "Multinomial",
        "Neg", "NegativeLogLikelihoodLoss", "NonMaxSuppression", "NonZero", "Not", "OneHot",
        "Optional", "OptionalGetElement", "OptionalHasElement", "Or", "PRelu", "Pad", "Pow",
        "QLinearConv", "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "RNN", "RandomNormal",
        "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Range", "Reciprocal", "ReduceL1",
        "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
        "ReduceProd", "ReduceSum", "ReduceSumSquare", "RegexFullMatch", "Relu", "Reshape", "Resize",
        "ReverseSequence", "RoiAlign", "RotaryEmbedding", "Round", "STFT", "Scan", "Scatter",
        "ScatterElements", "ScatterND", "Selu", "SequenceAt", "SequenceConstruct", "SequenceEmpty",
        "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "Shape", "Shrink",
        "Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh", "Size",
        "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Slice", "Softmax",
        "SoftmaxCrossEntropyLoss", "Softplus", "Softsign", "SpaceToDepth", "Split",
        "SplitToSequence", "Sqrt", "Squeeze", "StringConcat", "StringNormalizer", "StringSplit",
        "Sub", "Sum", "Swish", "Tan", "Tanh", "TensorScatter", "TfIdfVectorizer", "ThresholdedRelu",
        "Tile", "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze", "Upsample", "Where", "Xor",
    ]),
    ("ai.onnx.ml", &[
        "ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer",
        "FeatureVectorizer", "Imputer", "LabelEncoder", "LinearClassifier", "LinearRegressor",
        "Normalizer", "OneHotEncoder", "SVMClassifier", "SVMRegressor", "Scaler",
        "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "ZipMap",
    ]),
    ("ai.onnx.preview.training", &[
        "Adagrad", "Adam", "Momentum",
    ]),
    ("com.microsoft", &[
        "Attention", "BiasAdd", "BiasDropout", "BiasGelu", "BiasSoftmax", "BiasSplitGelu", "CDist",
        "ComplexMul", "ComplexMulConj", "ConvTransposeWithDynamicPads",
        "DecoderMaskedMultiHeadAttention", "DequantizeLinear", "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul", "EmbedLayerNormalization", "ExpandDims", "FastGelu", "FusedConv",
        "FusedGemm", "FusedMatMul", "FusedMatMulActivation", "GatherBlockQuantized", "GatherND",
        "Gelu", "GemmFastGelu", "GridSample", "GroupNorm", "GroupQueryAttention", "Inverse",
        "Irfft", "MatMulInteger16", "MatMulIntegerToFloat", "MatMulNBits", "MulInteger",
        "MultiHeadAttention", "NhwcConv", "NhwcFusedConv", "NhwcMaxPool", "PackedAttention",
        "PackedMultiHeadAttention", "Pad", "QAttention", "QEmbedLayerNormalization", "QGemm",
        "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv",
        "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul", "QLinearReduceMean",
        "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear", "QuickGelu", "Range",
        "ReduceSumInteger", "RemovePadding", "RestorePadding", "Rfft", "RotaryEmbedding",
        "SimplifiedLayerNormalization", "SkipGroupNorm", "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization", "Tokenizer", "TorchEmbedding", "TransposeMatMul",
        "Trilu", "Unique",
    ]),
];

/// Most names in a message; it states the number of the others.
const SHOWN_MAX: usize = 20;

impl ModelFile {
    /// Checks that every operator is supported, or is a function of the file.
    ///
    /// # Errors
    /// If some are neither, with their names and domains.
    pub fn check_operators(&self) -> Result<()> {
        let missing = self.missing_operators();
        if missing.is_empty() {
            return Ok(());
        }
        let shown: Vec<&str> = missing.iter().take(SHOWN_MAX).map(String::as_str).collect();
        let more = match missing.len().saturating_sub(SHOWN_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Err(OnnxError::unsupported(format!("unsupported operators: {}{more}", shown.join(", "))))
    }

    /// The unsupported operators, each once, including those of bodies and functions.
    fn missing_operators(&self) -> Vec<String> {
        let functions = self.functions.values().flat_map(|function| &function.nodes);
        let mut waiting: Vec<&Node> = self.graph.nodes.iter().chain(functions).collect();
        let mut seen: HashSet<(&str, &str)> = HashSet::new();
        while let Some(node) = waiting.pop() {
            for attribute in node.attributes.values() {
                if let Attribute::Graph(graph) = attribute {
                    waiting.extend(&graph.nodes);
                }
            }
            seen.insert((&node.domain, &node.op));
        }
        let functions: HashSet<(&str, &str)> =
            self.functions.keys().map(|(domain, name)| (domain.as_str(), name.as_str())).collect();
        let missing = seen.into_iter().filter(|key| !functions.contains(key));
        let missing = missing.filter(|(domain, name)| !is_supported(domain, name));
        let sorted: BTreeSet<String> =
            missing.map(|(domain, name)| full_name(domain, name)).collect();
        sorted.into_iter().collect()
    }
}

fn is_supported(domain: &str, name: &str) -> bool {
    OPERATORS.iter().any(|(of, names)| *of == domain && names.contains(&name))
}

/// An operator with its domain, and a remedy where one is known.
pub fn full_name(domain: &str, name: &str) -> String {
    match domain {
        "" => format!("{name} of ai.onnx"),
        domain @ "com.microsoft.nchwc" => format!(
            "{name} of {domain} (only for the kind of processor that the file was optimised on; \
             save it at ONNX Runtime's level extended)"
        ),
        domain => format!("{name} of {domain}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_known_by_domain_and_name() {
        for (domain, name, known) in [
            ("", "Relu", true),
            ("", "If", true),
            ("", "SequenceMap", true),
            ("", "Magic", false),
            ("ai.onnx.ml", "If", false),
            ("ai.onnx.ml", "Relu", false),
            ("org.example", "Relu", false),
        ] {
            assert_eq!(is_supported(domain, name), known, "{name} of {domain}");
        }
    }

    #[test]
    fn missing_operators_are_named_with_their_domain() {
        let data = include_bytes!("../../tests/data/unknown_operator.onnx");
        let file = ModelFile::read(bytes::Bytes::from_static(data).into(), None).unwrap();
        let error = file.check_operators().unwrap_err().to_string();
        assert_eq!(error, "unsupported operators: Magic of ai.onnx");
    }
}
