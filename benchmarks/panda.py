"""PANDA: prostate biopsies with ISUP grades."""

from mil_bench.datasets.card import BagProfile, DatasetSpec, GroupProfile, LabelColumns
from mil_bench.datasets.simulated import simulated
from mil_bench.hierarchy import LabelHierarchy

PANDA = DatasetSpec(
    name="panda",
    title="prostate biopsies, H&E, 10,616 slides of 2 providers, "
    "ISUP grades 0-5 in 4 coarse classes",
    # HMIL's authors did not release their coarse classes. Ours follow the usual risk groups: no
    # cancer, grade group 1, 2-3 and 4-5. They are a choice, not a fact about PANDA.
    hierarchy=LabelHierarchy.from_groups(
        {"benign": ["0"], "low": ["1"], "intermediate": ["2", "3"], "high": ["4", "5"]}
    ),
    class_counts=(2892, 2666, 1343, 1242, 1249, 1224),
    # 2,121 slides belong to 631 groups of near-duplicate images, and each of the others is a group;
    # patient ids are not public.
    groups=GroupProfile("near-duplicate group", 9126, grows=True, purity=0.9, optional=True),
    bags=BagProfile(500, 0.6, "magnitude of 20x patches of 256 pixels; not counted by us"),
    protocols=("patient-kfold", "paper", "leave-one-centre-out"),
    source="https://www.kaggle.com/c/prostate-cancer-grade-assessment (registration)",
    licence="the terms given at the source; not read by us",
    citation="W. Bulten et al., Artificial intelligence for diagnosis and Gleason grading of "
    "prostate cancer: the PANDA challenge, Nature Medicine 2022",
    traps=(
        "Patient ids are not public; 18.0 % of the test slides in HMIL's splits have a "
        "near-duplicate in training.",
        "The two providers (Karolinska 5,456, Radboud 5,160 slides) differ in grade balance and "
        "staining.",
        "Slide b0a92a74cb53899311acc30b7405e101 has a grade that contradicts its Gleason score.",
        "HMIL's splits contain 10,202 of the 10,616 slides; its coarse classes were not released.",
    ),
    columns=LabelColumns(
        slide=("image_id", "slide", "slide_id"),
        label=("isup_grade", "label"),
        group=("near_dup_group", "group", "patient", "case_id"),
        centre=("data_provider", "centre", "center"),
    ),
    ordered=True,
    main_metric="quadratic_kappa",  # the PANDA challenge's metric
)

PANDA_SIM = simulated(PANDA, slides=1000)
