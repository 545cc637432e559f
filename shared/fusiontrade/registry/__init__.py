"""Model versions: kept, compared, promoted and taken back; and the jobs that make and judge them."""
