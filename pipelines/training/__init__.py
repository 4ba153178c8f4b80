"""What training and judgement share: the chain of candidates and rows, labels, drawing, block training, rankers."""
