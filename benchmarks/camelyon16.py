"""CAMELYON16: metastases in sentinel lymph nodes of breast-cancer patients, normal or tumor."""

from mil_bench.datasets.card import DatasetSpec, GroupProfile
from mil_bench.hierarchy import LabelHierarchy

CAMELYON16 = DatasetSpec(
    name="camelyon16",
    title="metastases in sentinel lymph nodes, H&E, 399 slides of 2 centres, normal or tumor",
    hierarchy=LabelHierarchy.flat(("normal", "tumor")),
    class_counts=(239, 160),
    # One slide per patient: 399 slides are counted as 399 unique cases in table 1 of a later study
    # (Cancers 2022, PMC9659028), which also counts 160 slides with tumour.
    groups=GroupProfile("patient", 399),
    bags=None,
    protocols=("official", "patient-kfold"),
    source="https://camelyon17.grand-challenge.org/Data (open)",
    licence="CC0",
    citation="B. Ehteshami Bejnordi et al., Diagnostic Assessment of Deep Learning Algorithms for "
    "Detection of Lymph Node Metastases in Women With Breast Cancer, JAMA 2017",
    traps=(
        "Two training slides that are labelled normal show tumour (Y. Liu et al., arXiv "
        "1703.02442). Code of others leaves out normal_086 and normal_144.",
        "The organisers leave test_049 and test_114 out of their evaluation, and one test slide is "
        "a duplicate of another. Some copies of the data lack it and have 129 test slides.",
        "The official split is counted as 269/130 and as 270/129 slides: compare the counts before "
        "you compare results.",
        "A later revision removes slides of low quality and corrects labels of CAMELYON16 "
        "(doi 10.1038/s41597-025-05586-5).",
        "The official split has no validation part. Published code, such as that of MHIM-MIL, "
        "chooses the epoch on the test slides: its values are no target for an honest protocol.",
        "Names of training slides tell the label (normal_001, tumor_001).",
        "20 of the 160 slides with tumour are annotated in part only, so labels of patches miss "
        "some tumour.",
    ),
)
