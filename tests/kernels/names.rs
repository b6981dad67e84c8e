//! Checks for WGSL names that are reserved by Direct3D's and Metal's compilers and that naga does not rename.

use std::collections::BTreeSet;

use naga::{Function, TypeInner};

use crate::every_kernel::modules;

/// Names that DXC 1.9 declares or reserves and naga 30 passes through: from DXC's sources (TokenKinds.def, SemaHLSL.cpp,
/// ASTContextHLSL.cpp, gen_intrin_main.txt) less naga's back/hlsl/keywords.rs. Its namespaces come first: a buffer of such a name is a
/// "redefinition as different kind of symbol".
const DIRECT3D: &str = "
    dx vk hlsl std
    alignas alignof and_eq bitand bitor char16_t char32_t compl constexpr decltype noexcept not not_eq nullptr or_eq reordercoherent
    restrict static_assert thread_local typeof vec_step xor xor_eq
    BufferPointer BuiltInTriangleIntersectionAttributes BuiltInTrianglePositions DispatchNodeInputRecord EmptyNodeInput EmptyNodeOutput
    EmptyNodeOutputArray GlobalRootSignature GroupNodeInputRecords GroupNodeOutputRecords HitObject LocalRootSignature NodeOutput
    NodeOutputArray ProceduralPrimitiveHitGroup RWDispatchNodeInputRecord RWGroupNodeInputRecords RWThreadNodeInputRecord
    RaytracingPipelineConfig RaytracingPipelineConfig1 RaytracingShaderConfig SampledTexture1D SampledTexture1DArray SampledTexture2D
    SampledTexture2DArray SampledTexture2DMS SampledTexture2DMSArray SampledTexture3D SampledTextureCUBE SampledTextureCUBEArray
    SpirvOpaqueType SpirvType StateBlock StateObjectConfig SubobjectToExportsAssociation SubpassInput SubpassInputMS ThreadNodeInputRecord
    ThreadNodeOutputRecords TriangleHitGroup byte ext_result_id ext_type integral_constant null sampler1D sampler2D sampler3D samplerCUBE
    sbyte ulong ushort wave_t
    Barrier ClusterID DebugBreak GetGroupWaveCount GetGroupWaveIndex GetRemainingRecursionLevels TriangleObjectPositions isnormal
    ALL_MEMORY BARRIER_SEMANTIC_FLAG CLUSTER_ID_INVALID DEVICE_SCOPE GROUP_SCOPE GROUP_SHARED_MEMORY GROUP_SYNC MEMORY_TYPE_FLAG
    NODE_INPUT_MEMORY NODE_OUTPUT_MEMORY RAYQUERY_FLAG RAY_FLAG RAY_FLAG_NONE REORDER_SCOPE UAV_MEMORY COMMITTED_STATUS CANDIDATE_TYPE
";

/// Names that Metal's compiler (Clang with C++14 to 17) declares or reserves and naga 30 passes through: C++ keywords that WGSL does not
/// have, namespaces and macros of the two headers that naga includes, types of Metal 3 and 4.
const METAL: &str = "
    simd std mpp
    and and_eq bitand bitor compl not not_eq or or_eq xor xor_eq alignas alignof typeof
    concept requires char8_t co_await co_return co_yield consteval constinit
    NULL METAL_FUNC METAL_CONST METAL_PURE METAL_ALIGN METAL_INTERNAL METAL_CONST_ARG errno
    tensor tensor_handle tensor_inline cooperative_tensor extents dextents
    intptr_t uintptr_t int8_t uint8_t ptrdiff_t long8 short8 char8 uchar8
    coherent mesh object intersection visible stitchable
    defined __METAL__ __METAL_VERSION__ __APPLE__ unix linux
";

/// Every name that a module declares.
fn declared(module: &naga::Module) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut add = |name: &Option<String>| names.extend(name.iter().cloned());
    for (_, ty) in module.types.iter() {
        add(&ty.name);
        if let TypeInner::Struct { members, .. } = &ty.inner {
            members.iter().for_each(|member| add(&member.name));
        }
    }
    module.constants.iter().for_each(|(_, constant)| add(&constant.name));
    module.overrides.iter().for_each(|(_, constant)| add(&constant.name));
    module.global_variables.iter().for_each(|(_, variable)| add(&variable.name));
    let entries = module.entry_points.iter().map(|entry| &entry.function);
    let functions: Vec<&Function> = module.functions.iter().map(|(_, function)| function).chain(entries).collect();
    for function in functions {
        add(&function.name);
        function.arguments.iter().for_each(|argument| add(&argument.name));
        function.local_variables.iter().for_each(|(_, variable)| add(&variable.name));
        function.named_expressions.values().for_each(|name| add(&Some(name.clone())));
    }
    module.entry_points.iter().for_each(|entry| add(&Some(entry.name.clone())));
    names
}

#[test]
fn no_name_is_one_of_direct3d_or_metal() {
    let taken = |words: &str, name: &str| words.split_whitespace().any(|word| word == name);
    let mut seen = 0;
    for module in modules() {
        for name in declared(&module.parse().naga) {
            seen += 1;
            assert!(!taken(DIRECT3D, &name), "{}: `{name}` is a name of Direct3D's compiler, which naga does not rename", module.label);
            assert!(!taken(METAL, &name), "{}: `{name}` is a name of Metal's compiler, which naga does not rename", module.label);
        }
    }
    assert!(seen > 1000, "{seen} names");
}
