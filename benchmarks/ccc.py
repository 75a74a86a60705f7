"""CCC: cervical cytology slides, private to HMIL's authors."""

from mil_bench.datasets.card import BagProfile, DatasetSpec, GroupProfile, LabelColumns
from mil_bench.datasets.simulated import simulated
from mil_bench.hierarchy import LabelHierarchy

CCC = DatasetSpec(
    name="ccc",
    title="cervical cytology, about 33,520 slides of 10 centres, "
    "6 fine and 2 coarse classes, private",
    # Coarse classes as in HMIL's released test script.
    hierarchy=LabelHierarchy.from_groups(
        {"negative": ["NILM"], "positive": ["ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"]}
    ),
    # Counts of the published test tenth (3,352 slides); the rest of the labels is not published.
    class_counts=(2410, 452, 301, 61, 107, 21),
    # Centre alone gives a coarse AUC of .788; at this purity it gives .76 on ccc-sim.
    groups=GroupProfile("centre", 10, grows=False, purity=0.57),
    bags=BagProfile(1000, 0.6, "assumed: nothing is published"),
    protocols=("patient-kfold", "paper", "leave-one-centre-out"),
    folds=4,  # there are ten centres, and not all of them have SCC
    source="private to HMIL's authors; not available",
    licence="not available",
    citation="C. Jin et al., HMIL: Hierarchical Multi-Instance Learning for Fine-Grained Whole "
    "Slide Image Classification, IEEE Transactions on Medical Imaging 2025, "
    "doi 10.1109/TMI.2024.3520602",
    traps=(
        "Slide ids reveal labels (NOR..., ABN...): ids must never reach a model.",
        "The centre alone gives a coarse AUC of .788.",
        "SCC has 21 slides in a tenth of the data: its class-wise values are mostly noise.",
        "Training lists and patient ids are not published.",
    ),
    columns=LabelColumns(group=("centre", "center", "site", "patient", "case_id")),
)

CCC_SIM = simulated(CCC, slides=1676)  # a twentieth
