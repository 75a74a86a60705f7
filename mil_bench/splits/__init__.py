"""What a split is: the plan of folds, protocols, and the stratified drawing behind them."""
