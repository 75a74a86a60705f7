"""BRACS: breast carcinoma subtyping, seven fine classes on whole-slide level."""

from mil_bench.datasets.card import BagProfile, DatasetSpec, GroupProfile, LabelColumns
from mil_bench.datasets.simulated import simulated
from mil_bench.hierarchy import LabelHierarchy

BRACS = DatasetSpec(
    name="bracs",
    title="breast carcinoma subtyping, H&E, 547 slides of 189 patients, "
    "7 fine and 3 coarse classes",
    # Order and coarse classes of HMIL's released configuration.
    hierarchy=LabelHierarchy.from_groups(
        {"benign": ["N", "PB", "UDH"], "atypical": ["FEA", "ADH"], "malignant": ["DCIS", "IC"]}
    ),
    class_counts=(44, 147, 74, 41, 48, 61, 132),
    # 1.7 labels per patient at 2.9 slides per patient (BRACS.xlsx, sheet WSI_Information).
    groups=GroupProfile("patient", 189, grows=True, purity=0.6),
    bags=BagProfile(3000, 0.6, "magnitude of 20x patches of 256 pixels; not counted by us"),
    protocols=("patient-kfold", "official", "paper"),
    source="https://www.bracs.icar.cnr.it (registration)",
    licence="the terms given at the source; not read by us",
    citation="N. Brancati et al., BRACS: A Dataset for BReAst Carcinoma Subtyping in H&E Histology "
    "Images, Database 2022, doi 10.1093/database/baac093",
    traps=(
        "Labels of slides of one patient are correlated: predicting a test slide's label from its "
        "patient's training labels gives .469 accuracy and .748 macro AUC on HMIL's published "
        "splits, without any image.",
        "In HMIL's ten splits, 442 of 540 test slides (81.9 %) share a patient with training "
        "slides.",
        "The sheet WSI_with_RoI_Distribution of BRACS.xlsx has a Set column that contradicts "
        "WSI_Information on 281 of 387 slides: never use it.",
        "Patient 67 is in both the training and the validation part of the official split "
        "395/65/87.",
        "HMIL's splits contain 545 of the 547 slides.",
    ),
    columns=LabelColumns(sheet="WSI_Information"),  # reads BRACS.xlsx as it is
)

BRACS_SIM = simulated(BRACS, slides=547)
