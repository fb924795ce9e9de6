"""What readers of CMU Graphics Lab recordings share."""

CMU_LICENCE = (
    "CMU Graphics Lab Motion Capture Database: may be copied, modified and redistributed "
    "without permission"
)
"""From http://mocap.cs.cmu.edu/faqs.php, quoted in dm_control's `mocap/cmu_mocap_data.py`."""
