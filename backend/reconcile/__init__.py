"""The reconcile loop: observe what is, plan what is missing, act, look again.

Label Studio is the source of truth. A webhook is only a hint to look sooner; every action is
idempotent and safe to kill, because the next round compares again and finishes the work.
"""
