"""Evaluation on the untouched slice: figures with bootstrap intervals, beside the baselines they have to beat."""

from serving.evaluation.held_out import HeldOut
from serving.evaluation.lstm import LSTM_HEADLINES, judge_lstm
from serving.evaluation.patchtst import PATCHTST_HEADLINES, judge_patchtst

__all__ = ["LSTM_HEADLINES", "PATCHTST_HEADLINES", "HeldOut", "judge_lstm", "judge_patchtst"]
