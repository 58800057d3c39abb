"""How much a machine carries: service times measured and fitted, waiting by the formulas that planners use."""
